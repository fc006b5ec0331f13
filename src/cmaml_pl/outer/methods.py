"""Outer methods: from adapted parameters to a gradient of the meta-parameters."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import lagrangian_advantage, likelihood_ratio
from cmaml_pl.math.trust_region import rowwise_gradient
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


class OuterMethod(Protocol):
    """Turns a meta-batch into one gradient. Its fields are the section `outer` of the configuration."""

    @property
    def method(self) -> str:
        """Registry name."""
        ...

    @property
    def lr(self) -> float:
        """Step size of the meta-optimiser, Adam."""
        ...

    @property
    def passes(self) -> int:
        """Meta-optimiser steps on one meta-batch."""
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
            post: rollouts of `adapted`.

        Returns:
            g, (P,).
        """
        ...


@dataclass(frozen=True)
class FOMAML:
    """First-order MAML (Finn, Abbeel & Levine 2017, section 5.2): g = mean_p grad_{theta^p} L_p(theta^p).

    L_p = -E_post[ratio * (A_r - lambda^p A_c) / (1 + lambda^p)]. The gradient is taken at theta^p and applied at theta:
    the Jacobian of the inner loop is replaced by the identity. With that replacement a step of theta moves every
    theta^p by as much, so the same data can serve `passes` steps: the ratio corrects for the distance from the policies
    that collected them.

    Attributes:
        lr: Adam's step size (its authors' default).
        passes: steps on one meta-batch; 1 is the algorithm as it is printed.
        log_std: whether the meta-policy's exploration noise is learned. First order cannot see what noise is good for:
            a step within the trust region moves the mean action by at most sqrt(2 max_kl) standard deviations, so less
            noise, which pays after adaptation, leaves less to adapt with. On nav2d it starves adaptation.
    """

    method: str = "fomaml"
    lr: float = bounded(1.0e-3, above=0)
    passes: int = bounded(1, low=1)
    log_std: bool = True

    def gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        """See OuterMethod.gradient."""
        advantage = lagrangian_advantage(post, multiplier)
        _, gradient = rowwise_gradient(
            lambda candidate: -(likelihood_ratio(actor, candidate, post) * advantage).mean(dim=1), adapted
        )
        result = gradient.mean(dim=0)
        if not self.log_std:
            result[actor.log_std_slice] = 0.0
        return result
