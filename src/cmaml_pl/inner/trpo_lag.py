"""TRPO-Lagrangian (Ray, Achiam & Amodei 2019, "Benchmarking safe exploration in deep RL")."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from cmaml_pl.inner.base import InnerStep, PullBack, lagrangian_advantage
from cmaml_pl.inner.lagrangian import LagrangianMethod
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class TRPOLag(LagrangianMethod):
    """A step of lambda, then argmax E[ratio * A] s.t. E KL(old || new) <= max_kl; A is `lagrangian_advantage`.

    Attributes:
        trust_region: where a step may end.
    """

    method: str = "trpo_lag"
    trust_region: TrustRegion = field(default_factory=TrustRegion)

    differentiable: ClassVar = True

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        multiplier, weight = self.judge(actor, theta, multiplier, data)
        adapted, kl, share = self.trust_region.step(actor, theta, data, lagrangian_advantage(data, weight))
        return InnerStep(adapted, multiplier, kl, share, infeasible=torch.zeros_like(share, dtype=torch.bool))

    def pull_back(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData, step: Tensor) -> PullBack:
        """See InnerMethod.pull_back; the weight of the cost is held constant."""
        _, weight = self.judge(actor, theta, multiplier, data)
        advantage = lagrangian_advantage(data, weight)
        return self.trust_region.pull_back(actor, theta, data, advantage, step)
