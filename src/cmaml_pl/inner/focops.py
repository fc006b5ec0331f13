"""First Order Constrained Optimization in Policy Space (Zhang, Vuong & Ross 2020, arXiv 2002.06506)."""

from dataclasses import dataclass, field

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep, ratio_of
from cmaml_pl.inner.first_order import AdamRegion
from cmaml_pl.inner.lagrangian import LagrangianMethod
from cmaml_pl.math.gaussian import gaussian_kl
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class FOCOPS(LagrangianMethod):
    """A step of the multiplier, then Adam toward the policy that is best within the limit and the trust region.

    Among all policies, not only those of the network, the best one is (theorem 1 of the paper)

        pi*(a|s) ~ pi_old(a|s) exp((A_r - nu A_C) / temperature),

    and the network is projected onto it in KL, see `projection_gain`. nu is lambda of LagrangianMethod, which follows
    the cost as in the paper's algorithm 1.

    Attributes:
        multiplier_max: largest nu (the authors' code, and OmniSafe).
        temperature: the paper's lambda, the multiplier of the trust region; smaller is greedier (their code: 1.5).
        trust_region: where a step may end. Its `max_kl` is also the paper's delta: a state counts only while the
            divergence in it is at most that.
    """

    method: str = "focops"
    multiplier_max: float = bounded(2.0, low=0)
    temperature: float = bounded(1.5, above=0)
    trust_region: AdamRegion = field(default_factory=AdamRegion)

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        multiplier, weight = self.judge(actor, theta, multiplier, data)
        advantage = data.reward_signal - weight[:, None] * data.cost_signal

        def objective(loc: Tensor, scale: Tensor) -> Tensor:
            return projection_gain(
                loc, scale, data, advantage, temperature=self.temperature, max_kl=self.trust_region.max_kl
            )

        return self.trust_region.step(actor, theta, multiplier, data, objective)


def projection_gain(
    loc: Tensor, scale: Tensor, data: TaskData, advantage: Tensor, *, temperature: float, max_kl: float
) -> Tensor:
    """What lowers KL(pi || pi*), up to a constant, over the states in which pi is near the old policy, (tasks,).

    E_s[1{KL_s <= delta} (E_a[ratio A] / temperature - KL_s)], KL_s = KL(pi || old) in s: the negative of the loss of
    the paper's algorithm 1. The indicator is held constant.

    Args:
        loc: means of the actions of pi, (tasks, samples, A).
        scale: their standard deviations, of the same shape.
        data: rollouts of the old policy.
        advantage: A, (tasks, samples).
        temperature: of pi* ~ pi_old exp(A / temperature).
        max_kl: delta, nats.
    """
    ratio = ratio_of(loc, scale, data)
    kl = gaussian_kl(loc, scale, data.loc, data.scale)
    return ((ratio * advantage / temperature - kl) * (kl.detach() <= max_kl)).mean(dim=1)
