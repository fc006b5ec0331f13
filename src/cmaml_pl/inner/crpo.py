"""Constraint-Rectified Policy Optimization (Xu, Liang & Lan 2021, arXiv 2011.05869)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, InnerStep, PullBack
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class CRPO(InnerMethod):
    """A trust-region step on the reward while J_C <= (1 + tolerance) d, and one that only lowers the cost beyond.

    There is no dual variable. The multiplier says which of the two objectives a policy has: 0 for the reward, and
    `multiplier_max` for the cost, as for an infeasible task of CPO. The outer loss weighs the cost by it; the weight is
    finite, so that the loss of a task over its limit still has a little of the reward.

    Attributes:
        tolerance: eta of the paper, as a share of the limit (OmniSafe: 2 for a limit of 25).
        multiplier_max: the multiplier of a task that is over its limit (as TRPOLag); the step is not affected.
        trust_region: where a step may end.
    """

    method: str = "crpo"
    tolerance: float = bounded(0.08, low=0)
    multiplier_max: float = bounded(10.0, low=0)
    trust_region: TrustRegion = field(default_factory=TrustRegion)

    differentiable: ClassVar = True

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        multiplier, _ = self.judge(actor, theta, multiplier, data)
        adapted, kl, share = self.trust_region.step(actor, theta, data, self._advantage(data))
        return InnerStep(adapted, multiplier, kl, share, infeasible=torch.zeros_like(share, dtype=torch.bool))

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """The multiplier of the next step, which is not taken; see InnerMethod.judge."""
        weight = torch.where(self._over(data), self.multiplier_max, 0.0)
        return weight, weight

    def pull_back(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData, step: Tensor) -> PullBack:
        """See InnerMethod.pull_back; which objective the step has is held constant."""
        return self.trust_region.pull_back(actor, theta, data, self._advantage(data), step)

    def _over(self, data: TaskData) -> Tensor:
        return data.episode_cost > (1.0 + self.tolerance) * data.cost_limit

    def _advantage(self, data: TaskData) -> Tensor:
        """A_r of a task within its limit, -A_C of one that is over it, (tasks, samples)."""
        share = self._over(data)[:, None].to(data.cost_advantage)
        # weighted, not selected, so that a number that is not finite in either of them refuses the step
        return (1.0 - share) * data.reward_signal - share * data.cost_signal
