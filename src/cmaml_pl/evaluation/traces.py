"""Records traces, the positions of everything along a rollout, for figures and videos."""

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
"""Largest number of tasks that are recorded, and of worlds of each task."""


@dataclass(frozen=True)
class Trace:
    """Positions in a few worlds of one task during a rollout.

    Attributes:
        task: id of the task.
        step: number of adaptation steps of the policy.
        positions: name -> positions of the agent or of a kind of things, m, (time + 1, worlds, things of the kind, 2).
        lengths: number of steps of each world's first episode, (worlds,); figures and videos show only this episode.
        radii: kind of things -> radius, m.
        geometry: geoms of the task's first world, see TaskEnv.geometry, (time + 1, geoms, 3 + 9). It is recorded for
            the first task only, and None for other tasks and for environments without geoms.
    """

    task: int
    step: int
    positions: dict[str, Tensor]
    lengths: list[int]
    radii: dict[str, float]
    geometry: Tensor | None

    @property
    def on_a_line(self) -> bool:
        """Whether the agent only moves along x."""
        return not self.positions["agent"][..., 1].any()


def record_traces(
    rollouts: Rollouts, tasks: Sequence[Task], rollout: TensorDictBase, *, step: int, stream: Sequence[str | int]
) -> list[Trace]:
    """Traces of the first tasks of a rollout, which is played again for this; none if there are no positions.

    Args:
        rollouts: the object that collected the rollout; it must still have the same tasks.
        tasks: the tasks of the rollout.
        rollout: TensorDict [tasks, envs, time].
        step: number of adaptation steps of the policies.
        stream: the stream that `adapt` was given.
    """
    env = rollouts.env
    if not env.positions():
        return []

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
