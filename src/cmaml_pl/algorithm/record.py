"""The record of a meta-iteration that callbacks get, and the metrics of its rollouts."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from cmaml_pl.algorithm.adaptation import Stage, steps_between
from cmaml_pl.distributed.ranks import Ranks


@dataclass
class MetaIteration:
    """The record of a meta-iteration, which callbacks get as `outputs["iteration"]`.

    Attributes:
        pre: the stage before adaptation (the meta-policy on its tasks), without the tasks that were not finite and
            those that were informed.
        rollout: of the meta-policy on all tasks that were finite, TensorDict [tasks, envs, time].
        broken: number of tasks that were left out because they were not finite, on all ranks.
        env_steps: number of environment steps of this meta-iteration, on all ranks.
        metrics: name -> logged value, scalar; values of tasks are means over the tasks of all ranks.
        dropped: whether the callback Safeguard has undone this meta-iteration; later callbacks then ignore it.
    """

    pre: Stage
    rollout: TensorDict
    broken: int
    env_steps: int
    metrics: dict[str, Tensor]
    dropped: bool = False


def stage_metrics(stages: list[Stage], ranks: Ranks) -> tuple[dict[str, Tensor], Tensor]:
    """Of the tasks of all ranks: name -> mean, before adaptation (pre), after it (post), and of its steps; mean limit.

    All are scalar. The limit may be infinite.
    """
    pre, post = stages[0], stages[-1]
    steps = steps_between(stages)
    rows = {
        "pre/return": pre.data.episode_return,
        "pre/cost": pre.data.episode_cost,
        "post/return": post.data.episode_return,
        "post/cost": post.data.episode_cost,
        "post/violation_rate": (post.data.episode_cost > post.data.cost_limit).float(),
        "inner/kl": torch.stack([step.kl for step in steps]).mean(dim=0),
        "inner/rejected_steps": torch.stack([step.step_share == 0 for step in steps]).float().mean(dim=0),
        "inner/infeasible_steps": torch.stack([step.infeasible for step in steps]).float().mean(dim=0),
        "limit": post.data.cost_limit,
    }
    means = ranks.mean(torch.stack(list(rows.values()), dim=1)).unbind()
    metrics = dict(zip(rows, means, strict=True))
    limit = metrics.pop("limit")
    return {**metrics, "pre/over_limit": (metrics["pre/cost"] > limit).float()}, limit


def penalised_return(*batches: tuple[int, Mapping[str, Tensor], Tensor]) -> Tensor:
    """J - max(0, J_C - d) after adaptation, scalar: one number by which settings can be chosen.

    J, J_C and d are means over the tasks of all batches: the excess of one batch is made up for by another. The factor
    1 of the excess is chosen, not tuned.

    Args:
        batches: of each batch its number of tasks, and its `stage_metrics`.
    """
    total = sum(tasks for tasks, _, _ in batches)

    def mean(name: str) -> Tensor:
        return torch.stack([metrics[name] * (tasks / total) for tasks, metrics, _ in batches]).sum()

    limit = torch.stack([limit * (tasks / total) for tasks, _, limit in batches]).sum()
    return mean("post/return") - (mean("post/cost") - limit).clamp(min=0)


def informed_metrics(pre: Stage, ranks: Ranks) -> dict[str, Tensor]:
    """Name -> mean over the informed tasks of all ranks, scalar, before adaptation; empty if no task is informed."""
    if pre.informed is None:
        return {}
    told = pre.select(pre.informed).data
    return {"informed/return": ranks.mean(told.episode_return), "informed/cost": ranks.mean(told.episode_cost)}
