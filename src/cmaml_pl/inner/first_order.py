"""Shared by FOCOPS, PPO-Lagrangian and P3O: Adam steps on one rollout, within a bound on the divergence."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep, kl_to, mean_kl
from cmaml_pl.math.adam import adam_ascent
from cmaml_pl.nets.networks import PARTS, Actor
from cmaml_pl.rollout.task_data import TaskData

Objective = Callable[[Tensor, Tensor], Tensor]
"""What each task maximises: means and standard deviations of its actions, (tasks, samples, A) each -> (tasks,)."""


@dataclass(frozen=True)
class AdamRegion:
    """The policies with E KL(old || new) <= max_kl that Adam reaches, where old is the policy that collected the data.

    In the configuration it is the section `inner.trust_region` of the methods without second derivatives. Each of its
    `passes` is one Adam step on all samples of a task. A task's passes end when the next one would leave the region.
    OmniSafe stops early in the same way, but keeps the pass that leaves the region; here it is taken back. A pass takes
    all samples, and not minibatches: a task has so few that a pass is cheap, and a task's step then depends on nothing
    but its own data.

    Attributes:
        max_kl: largest mean divergence of a step, nats (as TrustRegion).
        parameters: which parameters a step may move, see TrustRegion.
        passes: largest number of Adam steps. OmniSafe has 40 passes, FOCOPS' authors 10, of 32 minibatches or more.
        lr: Adam's step size. Both have 3e-4; with as few steps as here a policy would hardly move. One pass of 2e-3
            diverges by about 0.001 nats, so that a region of 0.01 is still reached in steps.
    """

    max_kl: float = bounded(0.03, above=0)
    parameters: str = bounded("all", choices=PARTS)
    passes: int = bounded(20, low=1)
    lr: float = bounded(2.0e-3, above=0)

    def stretched(self, factor: float) -> Self:
        """See Stretchable: Adam's step size sets the length; max_kl still bounds it."""
        return replace(self, lr=factor * self.lr)

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData, objective: Objective) -> InnerStep:
        """Climb an objective from `theta`.

        Args:
            actor: the network that runs the parameters.
            theta: where the step starts, (tasks, P).
            multiplier: what the step is given as its multiplier, (tasks,).
            data: rollouts of `theta`.
            objective: of the policy that a candidate's network gives.

        Returns:
            The step. Its `step_share` is the share of `passes` that were taken; with 0 the parameters are `theta`.
        """

        def evaluate(candidate: Tensor) -> tuple[Tensor, Tensor]:
            loc, scale = actor.stacked(candidate, data.features)
            # a comparison with NaN is false, so a step to parameters that are not finite is refused
            return objective(loc, scale), kl_to(loc.detach(), scale.detach(), data) <= self.max_kl

        mask = actor.mask(self.parameters)
        adapted, share = adam_ascent(evaluate, theta.detach(), lr=self.lr, steps=self.passes, mask=mask)
        with torch.no_grad():
            kl = mean_kl(actor, adapted, data)
        return InnerStep(adapted, multiplier, kl, share, infeasible=torch.zeros_like(share, dtype=torch.bool))
