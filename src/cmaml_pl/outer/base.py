"""What an outer method is: how the tasks of a meta-batch adapt, and where that moves the initialisation."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


class OuterMethod(Protocol):
    """Moves the meta-parameters theta after a meta-batch. Its fields are the section `outer` of the configuration."""

    @property
    def method(self) -> str:
        """Registry name."""
        ...

    @property
    def passes(self) -> int:
        """Meta-optimiser steps on one meta-batch."""
        ...

    @property
    def max_kl(self) -> float | None:
        """Largest mean KL(old || new) of all of them together, nats; None where nothing limits it."""
        ...

    @property
    def safety_term(self) -> bool:
        """Whether the safety term w(eta) grad E[log pi A_C] may be added to its gradient."""
        ...

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The meta-optimiser of theta."""
        ...

    def adaptation(self, inner: InnerMethod) -> InnerMethod:
        """How the tasks adapt in meta-training; `inner` itself, but for baselines. All else adapts by `inner`."""
        ...

    def last_step(
        self, actor: GaussianActor, inner: InnerMethod, theta: Tensor, multiplier: Tensor, post: TaskData
    ) -> tuple[Tensor, Tensor]:
        """What becomes of the adapted policies on their own rollouts, for which the tasks took no step yet.

        Args:
            actor: the network that runs the parameters.
            inner: of `adaptation`.
            theta: the parameters that collected `post`, (tasks, P); left as they are.
            multiplier: lambda^p, (tasks,).
            post: rollouts of `theta`.

        Returns:
            theta^p (tasks, P) and lambda^p (tasks,) as `gradient` is to see them.
        """
        ...

    def gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        """The direction that the meta-optimiser descends.

        Args:
            actor: the network that runs the parameters.
            theta: meta-parameters, (P,).
            adapted: theta^p, (tasks, P).
            multiplier: lambda^p, held fixed, (tasks,).
            post: rollouts of the adapted policies.

        Returns:
            g, (P,), a new tensor.
        """
        ...


def without_log_std(actor: GaussianActor, gradient: Tensor) -> Tensor:
    """`gradient` (P,), with 0 where it would change the exploration noise."""
    result = gradient.clone()
    result[actor.log_std_slice] = 0.0
    return result
