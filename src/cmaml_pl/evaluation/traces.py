"""Traces: where everything was along a rollout, for figures and videos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.task import Task

TASKS, WORLDS = 4, 4
"""How many tasks are recorded, and how many worlds of each."""


@dataclass(frozen=True)
class Trace:
    """A few worlds of one task, each until its first episode ends.

    Attributes:
        task: id of the task.
        step: adaptation steps behind the policy.
        positions: of the agent and each kind of thing, name -> (time + 1, worlds, things of the kind, 2), m.
        lengths: steps of the worlds' first episodes, (worlds,).
        radii: of the kinds of things, m.
        geometry: of the first task's first world, see TaskEnv.geometry,
            (time + 1, geoms, 3 + 9).
    """

    task: int
    step: int
    positions: dict[str, Tensor]
    lengths: list[int]
    radii: dict[str, float]
    geometry: Tensor | None


def record_traces(
    rollouts: Rollouts, tasks: Sequence[Task], rollout: TensorDictBase, *, step: int, stream: Sequence[str | int]
) -> list[Trace]:
    """Traces of the first tasks of a rollout, which is played again for them.

    Args:
        rollouts: collected the rollout, and still have its tasks.
        tasks: of the rollout.
        rollout: TensorDict [tasks, envs, time].
        step: adaptation steps behind the policies.
        stream: that `adapt` was given.
    """
    env = rollouts.env

    def look() -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64] | None]:
        return {name: xy[:TASKS, :WORLDS].copy() for name, xy in env.positions().items()}, env.geometry(0, 0)

    seen = rollouts.replay(rollout["action"], look, *stream, step)
    done = rollout["next", "done"].squeeze(-1)
    lengths = torch.where(done.any(dim=-1), done.int().argmax(dim=-1) + 1, done.shape[-1])
    return [
        Trace(
            task=tasks[p].id,
            step=step,
            positions={name: _tensor([here[name][p] for here, _ in seen]) for name in seen[0][0]},
            lengths=lengths[p, :WORLDS].tolist(),
            radii=dict(env.radii),
            geometry=_tensor([geoms for _, geoms in seen]) if p == 0 and seen[0][1] is not None else None,
        )
        for p in range(min(TASKS, len(tasks)))
    ]


def _tensor(arrays: Sequence[NDArray[np.float64] | None]) -> Tensor:
    return torch.tensor(np.array(arrays), dtype=torch.float32)
