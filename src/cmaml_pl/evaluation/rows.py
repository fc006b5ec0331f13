"""Makes the lines of evaluation.csv: each says what one policy did on one task after some adaptation steps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cmaml_pl.algorithm.adaptation import Stage
from cmaml_pl.math.advantages import episode_sums
from cmaml_pl.task import Task

Row = Mapping[str, str | int | float]
"""method, seed, task, step, env_steps, return, cost, max_cost, cost_limit, violated, predicted_cost, critic_error; in
the file also score and anytime_cost, which follow from what the arms did together."""


def stage_rows(
    tasks: Sequence[Task], stage: Stage, *, step: int, seed: int, discount: float, predicted: Tensor
) -> list[Row]:
    """A row for each task: what its policy did in its rollout after `step` adaptation steps.

    `env_steps` counts the rollouts before the one that is measured; adaptation has learned from each of them, unless a
    strategy of deployment held it back. The method's name is not in the rows, because it depends on the other runs of a
    comparison. `discount` is that of the cost that the limits are on, and `predicted` is Jhat_C of each task, cost per
    episode, (tasks,).
    """
    after = stage.rollout["next"]
    largest = episode_sums(after["cost"], after["done"], discount=discount).nan_to_num(-torch.inf).amax(dim=(1, 2, 3))
    rows: list[Row] = []
    for p, task in enumerate(tasks):
        cost = stage.data.episode_cost[p].item()
        rows.append(
            {
                "seed": seed,
                "task": task.id,
                "step": step,
                "env_steps": step * stage.rollout[p].numel(),
                "return": stage.data.episode_return[p].item(),
                "cost": cost,
                "max_cost": max(cost, largest[p].item()),
                "cost_limit": task.cost_limit,
                "violated": int(cost > task.cost_limit),
                "predicted_cost": predicted[p].item(),
                "critic_error": abs(predicted[p].item() - cost),
            }
        )
    return rows


def by_arm_and_step(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """The rows of each arm at each step, in their order."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((str(row["method"]), int(row["step"])), []).append(row)
    return groups
