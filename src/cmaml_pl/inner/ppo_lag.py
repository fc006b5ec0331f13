"""PPO-Lagrangian (Ray, Achiam & Amodei 2019, "Benchmarking safe exploration in deep RL")."""

from dataclasses import dataclass, field

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep, clipped_surrogate, lagrangian_advantage, ratio_of
from cmaml_pl.inner.first_order import AdamRegion
from cmaml_pl.inner.lagrangian import LagrangianMethod
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class PPOLag(LagrangianMethod):
    """A step of lambda, then Adam on E[min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)]; A is `lagrangian_advantage`.

    The multiplier, and the weight of the cost in the outer loss, are those of TRPO-Lagrangian.

    Attributes:
        clip: eps, the distance of the ratio from 1 beyond which nothing is gained (Schulman et al. 2017, OmniSafe).
        trust_region: where a step may end.
    """

    method: str = "ppo_lag"
    clip: float = bounded(0.2, above=0)
    trust_region: AdamRegion = field(default_factory=AdamRegion)

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        multiplier, weight = self.judge(actor, theta, multiplier, data)
        advantage = lagrangian_advantage(data, weight)

        def objective(loc: Tensor, scale: Tensor) -> Tensor:
            return clipped_surrogate(ratio_of(loc, scale, data), advantage, self.clip)

        return self.trust_region.step(actor, theta, multiplier, data, objective)
