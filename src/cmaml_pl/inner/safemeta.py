"""The policy adaptation of SafeMeta (Xu & Zhu 2025, "Efficient Safe Meta-Reinforcement Learning", NeurIPS)."""

from dataclasses import dataclass, field

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.inner.linearised import cost_excess
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.math.natural_gradient import conjugate_gradient
from cmaml_pl.math.tilting import Tilt, tilt
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class SafeMetaAdaptation(InnerMethod):
    """argmax E[A_r] - kappa KL(pi || old)  s.t.  c + E[A_C] + kappa_C KL(pi || old) <= 0, and a network fitted to it.

    The solution is the policy pi_u ~ old exp((A_r - u A_C) / eta) with eta = kappa + u kappa_C, see `tilt`; c is the
    excess of the cost, see `cost_excess`. The network is fitted to it in the divergence KL(pi_theta || pi_u):

        argmin_theta KL(pi_theta || pi_u) = argmax_theta E[ratio (A_r - u A_C)] - eta KL(pi_theta || old),

    by one Newton step x = H^-1 grad E[ratio (A_r - u A_C)] / eta, H the damped Fisher matrix, and a line search on that
    objective. There KL(old || pi_theta) stands for KL(pi_theta || old); they are equal to second order. The paper fits
    the network by gradient steps and gives no number of them.

    The multiplier is u. It is solved anew in each step, so that nothing is carried from step to step or from task to
    task. It weighs standardised advantages, as lambda of TRPO-Lagrangian does.

    Attributes:
        kl_weight: kappa, in standard deviations of the reward advantage per nat. A smaller one gives longer steps
            (tuned on nav2d; the paper tunes it until a step's divergence is about 0.03).
        cost_kl_weight: kappa_C, in standard deviations of the cost advantage per nat. It leaves room for what the
            surrogate does not see, which grows with the divergence (Achiam et al. 2017, corollary 2).
        multiplier_max: largest u (as TRPOLag). A task that needs more is infeasible.
        margin: share of the limit that the step aims at (as TRPOLag).
        trust_region: where a step may end.
    """

    method: str = "safemeta"
    kl_weight: float = bounded(0.7, above=0)
    cost_kl_weight: float = bounded(0.5, low=0)
    multiplier_max: float = bounded(10.0, low=0)
    margin: float = bounded(1.0, above=0, high=1)
    trust_region: TrustRegion = field(default_factory=TrustRegion)

    @property
    def stretchable(self) -> bool:
        """False: kappa sets the length of a step, and the trust region only bounds it."""
        return False

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        target, region = self._target(data), self.trust_region
        eta = target.temperature
        advantage = data.reward_signal - target.multiplier[:, None] * data.cost_signal

        def accept(ratio: Tensor, kl: Tensor) -> Tensor:
            return (ratio * advantage).mean(dim=1) - eta * kl > before

        before, gradient = region.gradient(actor, theta, data, advantage)
        product = region.fisher(actor, theta, data)
        step = conjugate_gradient(product, gradient, iterations=region.cg_iterations) / eta[:, None]
        adapted, kl, share = region.search(actor, theta, data, step, accept)
        return InnerStep(adapted, target.multiplier, kl, share, target.infeasible)

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """The u of the next step, which is not taken; see InnerMethod.judge."""
        u = self._target(data).multiplier
        return u, u

    def _target(self, data: TaskData) -> Tilt:
        return tilt(
            data.reward_signal,
            data.cost_signal,
            cost_excess(data, margin=self.margin),
            kl_weight=self.kl_weight,
            cost_kl_weight=self.cost_kl_weight,
            high=self.multiplier_max,
        )
