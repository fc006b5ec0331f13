"""Projection-Based Constrained Policy Optimization (Yang et al. 2020, arXiv 2010.03152), with the projection in KL."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.inner.linearised import linearise, reach_where_free, safe_line_search
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.math.cpo_dual import Case, classify
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class PCPO(InnerMethod):
    """A reward step within the trust region, then the nearest point in KL that meets the limit, both linearised.

    If the limit is far away, the projected point may lie outside the trust region. Then the whole step is shortened to
    the region's edge before the line search. Tasks in which no step within the region meets the limit are counted as
    infeasible.

    The multiplier is the weight of the cost's gradient relative to the reward's in the direction of the step. It is
    computed anew in each step, as for CPO, and the outer loss uses it in place of lambda.

    Attributes:
        multiplier_max: largest multiplier that the outer loss is given (as TRPOLag); the step itself is not affected.
        trust_region: where a step may end. Its default takes 15 products with the Fisher matrix per gradient (OmniSafe)
            where TRPOLag takes 10: with 10, r (see `cpo_dual.solve`) is off by up to 5 % of sqrt(q s) on nav2d, with 15
            by 1 %.
    """

    method: str = "pcpo"
    multiplier_max: float = bounded(10.0, low=0)
    trust_region: TrustRegion = field(default_factory=lambda: TrustRegion(cg_iterations=15))

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        region = self.trust_region
        problem = linearise(actor, theta, data, region)
        along_reward, along_cost = project(problem.q, problem.r, problem.s, problem.c, max_kl=region.max_kl)
        length = shorten(problem.q, problem.r, problem.s, along_reward, along_cost, max_kl=region.max_kl)
        case = classify(problem.s, problem.c, max_kl=region.max_kl)
        step = problem.step(length * along_reward, length * along_cost)
        step = reach_where_free(actor, theta, data, step, region, case)
        keep_reward = case >= Case.BOUNDED
        adapted, kl, share = safe_line_search(actor, theta, data, step, region, c=problem.c, keep_reward=keep_reward)
        nu = self._multiplier(along_reward, along_cost)
        return InnerStep(adapted, nu, kl, share, infeasible=case == Case.RECOVERY)

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """The multiplier of the next step, which is not taken; see InnerMethod.judge."""
        problem, region = linearise(actor, theta, data, self.trust_region), self.trust_region
        nu = self._multiplier(*project(problem.q, problem.r, problem.s, problem.c, max_kl=region.max_kl))
        return nu, nu

    def _multiplier(self, along_reward: Tensor, along_cost: Tensor) -> Tensor:
        """Nu in x = along_reward H^-1 g + along_cost H^-1 b = along_reward H^-1 (g - nu b), (tasks,)."""
        return torch.where(along_cost < 0, -along_cost / along_reward, 0.0).clamp_max(self.multiplier_max)


def project(q: Tensor, r: Tensor, s: Tensor, c: Tensor, *, max_kl: float) -> tuple[Tensor, Tensor]:
    """The two coefficients, (tasks,), of x = along_reward H^-1 g + along_cost H^-1 b; symbols as in `cpo_dual.solve`.

    Section 4 of the paper, linearised as in its section 5: first y = argmax g'y s.t. 1/2 y'Hy <= delta, then
    x = argmin 1/2 (x - y)'H(x - y) s.t. c + b'x <= 0. In closed form

        y = sqrt(2 delta / q) H^-1 g,    x = y - max(0, (sqrt(2 delta / q) r + c) / s) H^-1 b,

    which is the paper's update with L = H; the paper's a and b are b and c here. As in the paper, nothing keeps x
    within the trust region.
    """
    flat = classify(s, c, max_kl=max_kl) == Case.FLAT
    along_reward = torch.where(q > 0, (2.0 * max_kl / q).sqrt(), 0.0)
    excess = (along_reward * r + c).clamp_min(0.0)
    return along_reward, torch.where(flat, 0.0, -excess / s)


def shorten(q: Tensor, r: Tensor, s: Tensor, along_reward: Tensor, along_cost: Tensor, *, max_kl: float) -> Tensor:
    """The largest factor f <= 1 with 1/2 (f x)'H(f x) <= delta for the step x of `project`, (tasks,)."""
    # x'Hx of x = along_reward H^-1 g + along_cost H^-1 b
    square = along_reward.square() * q + 2.0 * along_reward * along_cost * r + along_cost.square() * s
    return torch.where(square > 2.0 * max_kl, (2.0 * max_kl / square).sqrt(), 1.0)
