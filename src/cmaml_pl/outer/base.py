"""What an outer method is: how the tasks of a meta-batch adapt, and where that moves the initialisation."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmaml_pl.bounds import bounded
from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class OuterMethod(ABC):
    """Moves the meta-parameters theta after a meta-batch. Its fields are the section `outer` of the configuration.

    Attributes:
        method: registry name.
        log_std: whether the meta-policy's exploration noise is learned. First order cannot see what noise is good for:
            a step within the trust region moves the mean action by at most sqrt(2 max_kl) standard deviations, so less
            noise, which pays after adaptation, leaves less to adapt with. On nav2d it starves adaptation.
    """

    method: str
    log_std: bool = True

    @property
    def passes(self) -> int:
        """Meta-optimiser steps on one meta-batch."""
        return 1

    @property
    @abstractmethod
    def max_kl(self) -> float | None:
        """Largest mean KL(old || new) of all of them together, nats; None where nothing limits it."""

    @property
    @abstractmethod
    def safety_term(self) -> bool:
        """Whether the safety term w(eta) grad E[log pi A_C] may be added to its gradient."""

    @abstractmethod
    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The meta-optimiser of theta."""

    def adaptation(self, inner: InnerMethod, ranks: Ranks = ALONE) -> InnerMethod:
        """How the tasks adapt in meta-training; `inner` itself, but for baselines. All else adapts by `inner`."""
        return inner

    def last_step(
        self, actor: GaussianActor, inner: InnerMethod, theta: Tensor, multiplier: Tensor, post: TaskData
    ) -> tuple[Tensor, Tensor]:
        """What becomes of the adapted policies on their own rollouts; nothing, but for baselines.

        Args:
            actor: the network that runs the parameters.
            inner: of `adaptation`.
            theta: the parameters that collected `post`, (tasks, P); left as they are.
            multiplier: lambda^p, (tasks,).
            post: rollouts of `theta`.

        Returns:
            theta^p (tasks, P) and lambda^p (tasks,) as `gradient` is to see them.
        """
        return theta, multiplier

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
            g, (P,), a new tensor; 0 in log_std unless it is learned.
        """
        result = self._gradient(actor, theta, adapted, multiplier, post)
        if not self.log_std:
            result[actor.log_std_slice] = 0.0
        return result

    @abstractmethod
    def _gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        """See `gradient`, log_std learned."""


@dataclass(frozen=True, kw_only=True)
class MetaLearner(OuterMethod):
    """An outer method of C-MAML: its direction and the safety term go to Adam.

    Attributes:
        lr: Adam's step size (its authors' default).
        max_kl: largest mean KL(old || new) of the meta-policy in a meta-iteration, nats; null leaves it to Adam.
    """

    lr: float = bounded(1.0e-3, above=0)
    max_kl: float | None = bounded(None, above=0)

    @property
    def safety_term(self) -> bool:
        """Yes."""
        return True

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(parameters, lr=self.lr)
