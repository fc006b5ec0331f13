"""TRPO-Lagrangian (Ray, Achiam & Amodei 2019, "Benchmarking safe exploration in deep RL")."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep, lagrangian_advantage
from cmaml_pl.inner.steps import trust_region_step
from cmaml_pl.math.multiplier import ascend
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class TRPOLag:
    """lambda <- max(0, lambda + lr (J_C - d)), then argmax E[ratio * A] s.t. E KL(old || new) <= max_kl.

    The step may weigh cost by lambda + kp (J_C - d) instead, a proportional beside the integral term (Stooke, Achiam &
    Abbeel 2020, "Responsive safety in reinforcement learning by PID Lagrangian methods", algorithm 2 with K_D = 0).

    Attributes:
        steps: K, adaptation steps, each on new data.
        max_kl: eps, nats (OmniSafe: 0.01; more, since a task is given few steps).
        cost_limit: d, undiscounted cost per episode.
        multiplier_init: lambda before anything was learned (OmniSafe).
        multiplier_lr: a_lambda, per unit of episode cost: 10 too much add 0.1. Experiments set their own.
        multiplier_kp: K_P, per unit of episode cost. A few adaptation steps are over before lambda has risen; this
            answers at once, and is forgotten with the excess. 0 is TRPO-Lagrangian as it is printed.
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
    multiplier_kp: float = bounded(0.0, low=0)
    multiplier_carry: float = bounded(0.1, low=0, high=1)
    multiplier_max: float = bounded(10.0, low=0)
    cg_iterations: int = bounded(10, low=1)
    cg_damping: float = bounded(0.1, low=0)
    fisher_every: int = bounded(4, low=1)
    line_search_ratio: float = bounded(0.8, above=0, high=1)
    line_search_tries: int = bounded(15, low=1)

    def step(self, actor: GaussianActor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        cost, limit, high = data.episode_cost, data.cost_limit, self.multiplier_max
        multiplier = ascend(multiplier, cost, limit, lr=self.multiplier_lr, high=high)
        weight = ascend(multiplier, cost, limit, lr=self.multiplier_kp, high=high)
        adapted, kl, share = trust_region_step(
            actor,
            theta,
            data,
            lagrangian_advantage(data, weight),
            max_kl=self.max_kl,
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            fisher_every=self.fisher_every,
            line_search_ratio=self.line_search_ratio,
            line_search_tries=self.line_search_tries,
        )
        return InnerStep(adapted, multiplier, kl, share, infeasible=torch.zeros_like(share, dtype=torch.bool))
