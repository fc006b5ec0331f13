"""TRPO without a constraint (Schulman et al. 2015): the inner loop of unconstrained MAML."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from cmaml_pl.inner.base import InnerMethod, InnerStep, PullBack
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class TRPO(InnerMethod):
    """argmax E[ratio * A_r] s.t. E KL(old || new) <= max_kl; the cost is ignored.

    Its lambda is 0, so the outer loss ignores the cost as well. The safety term of the outer update still uses the
    cost; `safety.eta=0 safety.eta_lr=0` turns it off.

    Attributes:
        trust_region: where a step may end.
    """

    method: str = "trpo"
    trust_region: TrustRegion = field(default_factory=TrustRegion)

    differentiable: ClassVar = True

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        adapted, kl, share = self.trust_region.step(actor, theta, data, data.reward_signal)
        no = torch.zeros_like(share, dtype=torch.bool)
        return InnerStep(adapted, torch.zeros_like(multiplier), kl, share, infeasible=no)

    def pull_back(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData, step: Tensor) -> PullBack:
        """See InnerMethod.pull_back."""
        return self.trust_region.pull_back(actor, theta, data, data.reward_signal, step)
