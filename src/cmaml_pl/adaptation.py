"""The inner loop: rollouts and adaptation steps in turn, for a batch of tasks at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.rollout.task_data import AdvantageEstimator, TaskData
from cmaml_pl.tasks.task import Task


@dataclass(frozen=True)
class Stage:
    """The tasks after k adaptation steps.

    Attributes:
        theta: the parameters that acted, (tasks, P).
        multiplier: lambda^p, (tasks,).
        rollout: TensorDict [tasks, envs, time].
        data: the same rollout as the updates see it.
        step: the adaptation step that led here; None before the first.
    """

    theta: Tensor
    multiplier: Tensor
    rollout: TensorDict
    data: TaskData
    step: InnerStep | None


def adapt(
    tasks: Sequence[Task],
    theta: Tensor,
    multiplier: Tensor,
    *,
    steps: int,
    rollouts: Rollouts,
    estimator: AdvantageEstimator,
    inner: InnerMethod,
    stream: Sequence[str | int],
) -> list[Stage]:
    """Adapt one policy to every task, on new data each step.

    Args:
        tasks: at most as many as the rollouts' environment has rows.
        theta: where every task starts, (P,); left as it is.
        multiplier: lambda^p where every task starts, scalar.
        steps: K.
        rollouts: collects the data.
        estimator: gives advantages.
        inner: the adaptation method.
        stream: names the random streams of the rollouts.

    Returns:
        K + 1 stages; the first is the policy before adaptation, the last after it.
    """
    limit = torch.tensor([task.cost_limit for task in tasks])
    stacked, multipliers = theta.expand(len(tasks), -1).clone(), multiplier.expand(len(tasks)).clone()
    rollouts.set_tasks(tasks)
    stages: list[Stage] = []
    step: InnerStep | None = None
    for k in range(steps + 1):
        rollout = rollouts.collect(stacked, *stream, k)
        data = estimator.task_data(rollout, limit)
        stages.append(Stage(stacked, multipliers, rollout, data, step))
        if k < steps:
            step = inner.step(estimator.actor, stacked, multipliers, data)
            stacked, multipliers = step.theta, step.multiplier
    return stages
