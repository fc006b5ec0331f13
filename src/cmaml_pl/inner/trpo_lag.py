"""TRPO-Lagrangian (Ray, Achiam & Amodei 2019, "Benchmarking safe exploration in deep RL")."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep, lagrangian_advantage, likelihood_ratio, mean_kl
from cmaml_pl.math.multiplier import ascend
from cmaml_pl.math.trust_region import fisher_product, line_search, natural_step, rowwise_gradient
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class TRPOLag:
    """lambda <- max(0, lambda + lr (J_C - d)), then argmax E[ratio * A] s.t. E KL(old || new) <= max_kl.

    Attributes:
        steps: K, adaptation steps, each on new data.
        max_kl: eps, nats (OmniSafe: 0.01; more, since a task is given few steps).
        cost_limit: d, undiscounted cost per episode.
        multiplier_init: lambda before anything was learned (OmniSafe).
        multiplier_lr: a_lambda, per unit of episode cost: 10 too much add 0.1. Experiments set their own.
        multiplier_carry: share of the tasks' mean change of lambda that the next tasks start from. Below 1 lambda
            reacts at once within a task and slowly from task to task; at 1 cost and return swung on nav2d.
        multiplier_max: largest lambda; keeps a hopeless task from silencing the reward for all others.
        cg_iterations: products with the Fisher matrix (OmniSafe: 15).
        cg_damping: added to its diagonal (OmniSafe).
        fisher_every: the Fisher matrix is averaged over every so many-th state (Schulman et al. 2015, appendix C.1,
            take a tenth); the divergence that the line search checks is that of all.
        line_search_ratio: each try is so much shorter (OmniSafe).
        line_search_tries: lengths tried (OmniSafe).
    """

    method: str = "trpo_lag"
    steps: int = bounded(1, low=1)
    max_kl: float = bounded(0.03, above=0)
    cost_limit: float = bounded(25.0, low=0, finite=False)
    multiplier_init: float = bounded(0.001, low=0)
    multiplier_lr: float = bounded(0.01, low=0)
    multiplier_carry: float = bounded(0.1, low=0, high=1)
    multiplier_max: float = bounded(10.0, low=0)
    cg_iterations: int = bounded(10, low=1)
    cg_damping: float = bounded(0.1, low=0)
    fisher_every: int = bounded(4, low=1)
    line_search_ratio: float = bounded(0.8, above=0, high=1)
    line_search_tries: int = bounded(15, low=1)

    def step(self, actor: GaussianActor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        multiplier = ascend(
            multiplier, data.episode_cost, data.cost_limit, lr=self.multiplier_lr, high=self.multiplier_max
        )
        advantage = lagrangian_advantage(data, multiplier)

        def surrogate(candidate: Tensor) -> Tensor:
            return (likelihood_ratio(actor, candidate, data) * advantage).mean(dim=1)

        def kl(candidate: Tensor, every: int = 1) -> Tensor:
            return mean_kl(actor, candidate, data, every=every)

        before, gradient = rowwise_gradient(surrogate, theta)
        product = fisher_product(lambda x: kl(x, self.fisher_every), theta, damping=self.cg_damping)
        step = natural_step(product, gradient, max_kl=self.max_kl, iterations=self.cg_iterations)

        @torch.no_grad()
        def accept(candidate: Tensor) -> Tensor:
            # a comparison with NaN is false: a step that leaves the numbers is refused like any bad one
            return (surrogate(candidate) > before) & (kl(candidate) <= self.max_kl)

        adapted, share = line_search(
            accept, theta.detach(), step, ratio=self.line_search_ratio, tries=self.line_search_tries
        )
        with torch.no_grad():
            return InnerStep(adapted, multiplier, kl(adapted), share)
