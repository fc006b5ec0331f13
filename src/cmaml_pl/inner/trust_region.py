"""The trust region of an adaptation step: how far a step may go, and how its length is found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import PullBack, kl_to, likelihood_ratio, mean_kl, ratio_of
from cmaml_pl.math.natural_gradient import (
    TaskFunction,
    conjugate_gradient,
    fisher_product,
    hessian_product,
    line_search,
    natural_step,
    rowwise_gradient,
)
from cmaml_pl.nets.networks import PARTS, Actor
from cmaml_pl.rollout.task_data import TaskData

EDGE = 0.98
"""Share of max_kl that a step is given: at all of it, every other line search would shorten the step."""

Acceptance = Callable[[Tensor, Tensor], Tensor]
"""Judges candidates by their ratio to the old policy, (tasks, samples), and KL(old || new), (tasks,) -> bool (tasks,).

A comparison with NaN is false, so that a step to parameters that are not finite is refused like any bad step.
"""


@dataclass(frozen=True)
class TrustRegion:
    """The policies with E KL(old || new) <= max_kl, where old is the policy that collected the data.

    The source is Schulman et al. 2015. In the configuration it is the section `inner.trust_region`.

    Attributes:
        max_kl: largest mean divergence of a step, nats (OmniSafe: 0.01; more here, because a task has few steps).
        parameters: which parameters a step may move: "all" of them; "context", an input that is the same in all states
            (CAVIA, Zintgraf et al. 2019); "head", the last layer (ANIL, Raghu et al. 2020); or "mean", all but log_std.
        cg_iterations: number of products with the Fisher matrix for each gradient (OmniSafe: 15).
        cg_damping: number added to the diagonal of the Fisher matrix (OmniSafe).
        fisher_every: the Fisher matrix is averaged over every `fisher_every`-th state (Schulman et al. 2015, appendix
            C.1, use a tenth of the states). The line search checks the divergence on all states. An actor that
            remembers has to run all states, and uses all.
        line_search_ratio: length of each try relative to the one before (OmniSafe).
        line_search_tries: number of lengths tried (OmniSafe).
    """

    max_kl: float = bounded(0.03, above=0)
    parameters: str = bounded("all", choices=PARTS)
    cg_iterations: int = bounded(10, low=1)
    cg_damping: float = bounded(0.1, low=0)
    fisher_every: int = bounded(4, low=1)
    line_search_ratio: float = bounded(0.8, above=0, high=1)
    line_search_tries: int = bounded(15, low=1)

    def stretched(self, factor: float) -> Self:
        """See Stretchable: the divergence grows with the square of a step's length."""
        return replace(self, max_kl=factor**2 * self.max_kl)

    def fisher(self, actor: Actor, theta: Tensor, data: TaskData) -> TaskFunction:
        """The product with the damped Fisher matrix at `theta`, v -> (H + damping I) v, (tasks, P) -> (tasks, P)."""
        product = fisher_product(
            lambda x: mean_kl(actor, x, data, every=self.fisher_every), theta, damping=self.cg_damping
        )
        mask = actor.mask(self.parameters)
        return product if mask is None else lambda v: mask * product(mask * v)

    def gradient(self, actor: Actor, theta: Tensor, data: TaskData, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """E[ratio * advantage], (tasks,), and its gradient in the parameters that may move, (tasks, P), at `theta`."""
        value, gradient = rowwise_gradient(lambda x: surrogate(actor, x, data, advantage), theta)
        mask = actor.mask(self.parameters)
        return value, gradient if mask is None else mask * gradient

    def step(self, actor: Actor, theta: Tensor, data: TaskData, advantage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Argmax E[ratio * advantage] within the region (Schulman et al. 2015, appendix C).

        Args:
            actor: the network that runs the parameters.
            theta: where the step starts, (tasks, P).
            data: rollouts of `theta`.
            advantage: (tasks, samples).

        Returns:
            The same as `search`.
        """
        before, gradient = self.gradient(actor, theta, data, advantage)
        product = self.fisher(actor, theta, data)
        step = natural_step(product, gradient, max_kl=self.max_kl, iterations=self.cg_iterations)
        step = self.reach(actor, theta, data, step)
        return self.search(actor, theta, data, step, lambda ratio, _: (ratio * advantage).mean(dim=1) > before)

    def pull_back(self, actor: Actor, theta: Tensor, data: TaskData, advantage: Tensor, step: Tensor) -> PullBack:
        """Maps gradients at theta + x(theta) to gradients at `theta`, where x is the step that `step` gave.

        The step is x = alpha u with u = D^-1 g, D the damped Fisher matrix H + damping I, g the gradient of
        E[ratio * advantage], and alpha such that x ends at the region's edge, x'Hx = const. With H and the advantage
        held constant, and S the Hessian of E[ratio * advantage],

            d(theta + x)/dtheta = I + alpha (I - x (Hx)' / x'Hx) D^-1 S.

        At the parameters that collected the data, S is the low-variance curvature of Rothfuss et al. 2019 (ProMP, eq.
        5): it holds what a change of `theta` does to the data that the step is computed from.

        Args:
            actor: the network that runs the parameters.
            theta: where the step starts, (tasks, P).
            data: rollouts of `theta`.
            advantage: (tasks, samples).
            step: x, (tasks, P); where it is 0, gradients are returned unchanged.
        """
        mask = actor.mask(self.parameters)
        slope, curvature = hessian_product(lambda x: surrogate(actor, x, data, advantage), theta)
        product = self.fisher(actor, theta, data)
        along = product(step)  # D x = alpha g
        fisher_step = along - self.cg_damping * step
        length = (step * fisher_step).sum(dim=1, keepdim=True)
        moved = length > 0
        safe = length.where(moved, torch.ones_like(length))
        alpha = (step * along).sum(dim=1, keepdim=True) / (step * slope).sum(dim=1, keepdim=True).where(moved, safe)

        def apply(gradient: Tensor) -> Tensor:
            own = gradient if mask is None else mask * gradient
            across = own - fisher_step * (step * own).sum(dim=1, keepdim=True) / safe
            solved = conjugate_gradient(product, across, iterations=self.cg_iterations)
            return gradient + torch.where(moved, alpha * curvature(solved), 0.0)

        return apply

    @torch.no_grad()
    def reach(self, actor: Actor, theta: Tensor, data: TaskData, step: Tensor) -> Tensor:
        """`step` (tasks, P), scaled so that its own divergence is just below max_kl.

        The quadratic model that gave the length of `step` includes the damping, so it overestimates the divergence. The
        divergence grows with about the square of the length. Each of two rounds scales a step by at most 2.
        """
        for _ in range(2):
            kl = mean_kl(actor, theta + step, data)
            factor = (EDGE * self.max_kl / kl.where(kl > 0, torch.full_like(kl, EDGE * self.max_kl))).sqrt()
            step = factor.clamp(0.5, 2.0)[:, None] * step
        return step

    @torch.no_grad()
    def search(
        self, actor: Actor, theta: Tensor, data: TaskData, step: Tensor, accept: Acceptance
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shorten `step` until it ends within the region and `accept` holds at its end.

        Args:
            actor: the network that runs the parameters.
            theta: where the step starts, (tasks, P).
            data: rollouts of `theta`.
            step: (tasks, P).
            accept: see Acceptance.

        Returns:
            Adapted parameters, (tasks, P); their mean KL(old || new), nats, (tasks,); and the accepted share of the
            step, (tasks,), which is 0 for tasks in which no length was accepted.
        """

        def ends_well(candidate: Tensor) -> Tensor:
            loc, scale = actor.stacked(candidate, data.features)
            kl = kl_to(loc, scale, data)
            return accept(ratio_of(loc, scale, data), kl) & (kl <= self.max_kl)

        adapted, share = line_search(
            ends_well, theta.detach(), step, ratio=self.line_search_ratio, tries=self.line_search_tries
        )
        return adapted, mean_kl(actor, adapted, data), share


def surrogate(actor: Actor, theta: Tensor, data: TaskData, advantage: Tensor) -> Tensor:
    """E[pi_theta(a|s) / pi_old(a|s) * advantage], (tasks,), for an advantage (tasks, samples)."""
    return (likelihood_ratio(actor, theta, data) * advantage).mean(dim=1)
