"""TRPO without a constraint (Schulman et al. 2015): the inner loop of unconstrained MAML."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep
from cmaml_pl.inner.steps import trust_region_step
from cmaml_pl.math.advantages import standardise
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class TRPO:
    """argmax E[ratio * A_r] s.t. E KL(old || new) <= max_kl; the cost is ignored.

    Its lambda is 0, so the outer loss ignores the cost too. The outer update's safety term does not: `safety.eta=0
    safety.eta_lr=0` turns it off.

    Attributes:
        steps: K, adaptation steps, each on new data.
        max_kl: eps, nats (as TRPOLag).
        cost_limit: d, undiscounted cost per episode; the method only has its violations counted.
        cg_iterations: products with the Fisher matrix (as TRPOLag).
        cg_damping: added to its diagonal (OmniSafe).
        fisher_every: the Fisher matrix is averaged over every so many-th state (as TRPOLag).
        line_search_ratio: each try is so much shorter (OmniSafe).
        line_search_tries: lengths tried (OmniSafe).
    """

    method: str = "trpo"
    steps: int = bounded(1, low=1)
    max_kl: float = bounded(0.03, above=0)
    cost_limit: float = bounded(25.0, low=0, finite=False)
    cg_iterations: int = bounded(10, low=1)
    cg_damping: float = bounded(0.1, low=0)
    fisher_every: int = bounded(4, low=1)
    line_search_ratio: float = bounded(0.8, above=0, high=1)
    line_search_tries: int = bounded(15, low=1)

    @property
    def multiplier_init(self) -> float:
        """Lambda is 0 throughout."""
        return 0.0

    @property
    def multiplier_carry(self) -> float:
        """Nothing is carried."""
        return 0.0

    def step(self, actor: GaussianActor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        adapted, kl, share = trust_region_step(
            actor,
            theta,
            data,
            standardise(data.reward_advantage),
            max_kl=self.max_kl,
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            fisher_every=self.fisher_every,
            line_search_ratio=self.line_search_ratio,
            line_search_tries=self.line_search_tries,
        )
        no = torch.zeros_like(share, dtype=torch.bool)
        return InnerStep(adapted, torch.zeros_like(multiplier), kl, share, infeasible=no)
