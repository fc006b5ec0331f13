"""Projection-Based Constrained Policy Optimization (Yang et al. 2020, arXiv 2010.03152), with the projection in KL."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep
from cmaml_pl.inner.steps import linearise, safe_line_search
from cmaml_pl.math.cpo_dual import Case, classify
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class PCPO:
    """A reward step within the trust region, then the nearest point in KL at which the limit is met, both linearised.

    The projection may leave the trust region when the limit is far. There the whole step is shortened to the region's
    edge before the line search; tasks in which no step within the region meets the limit are counted as infeasible.

    The multiplier is the weight of the cost's gradient beside the reward's in the direction of the step: found anew in
    each step, as CPO's is, and used by the outer loss in the same place.

    Attributes:
        steps: K, adaptation steps, each on new data.
        max_kl: delta, nats (as TRPOLag).
        cost_limit: d, undiscounted cost per episode.
        multiplier_max: largest multiplier that the outer loss is given (as TRPOLag); the step itself is not affected.
        cg_iterations: products with the Fisher matrix for each of the two gradients (OmniSafe). More than TRPOLag's:
            with 10, r is off by up to 5 % of sqrt(q s) on nav2d, with 15 by 1 %.
        cg_damping: added to its diagonal (OmniSafe).
        fisher_every: the Fisher matrix is averaged over every so many-th state (as TRPOLag).
        line_search_ratio: each try is so much shorter (OmniSafe).
        line_search_tries: lengths tried (OmniSafe).
    """

    method: str = "pcpo"
    steps: int = bounded(1, low=1)
    max_kl: float = bounded(0.03, above=0)
    cost_limit: float = bounded(25.0, low=0, finite=False)
    multiplier_max: float = bounded(10.0, low=0)
    cg_iterations: int = bounded(15, low=1)
    cg_damping: float = bounded(0.1, low=0)
    fisher_every: int = bounded(4, low=1)
    line_search_ratio: float = bounded(0.8, above=0, high=1)
    line_search_tries: int = bounded(15, low=1)

    @property
    def multiplier_init(self) -> float:
        """Without effect: the multiplier is found anew."""
        return 0.0

    @property
    def multiplier_carry(self) -> float:
        """Nothing is carried."""
        return 0.0

    def step(self, actor: GaussianActor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        problem = linearise(
            actor,
            theta,
            data,
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
            fisher_every=self.fisher_every,
        )
        q, r, s, c = problem.q, problem.r, problem.s, problem.c
        along_reward, along_cost = project(q, r, s, c, max_kl=self.max_kl)
        length = shorten(q, r, s, along_reward, along_cost, max_kl=self.max_kl)
        case = classify(s, c, max_kl=self.max_kl)
        adapted, kl, share = safe_line_search(
            actor,
            theta,
            data,
            problem.step(length * along_reward, length * along_cost),
            c=c,
            keep_reward=case >= Case.BOUNDED,
            max_kl=self.max_kl,
            line_search_ratio=self.line_search_ratio,
            line_search_tries=self.line_search_tries,
        )
        # x = along_reward H^-1 (g - nu b)
        nu = torch.where(along_cost < 0, -along_cost / along_reward, 0.0).clamp_max(self.multiplier_max)
        return InnerStep(adapted, nu, kl, share, infeasible=case == Case.RECOVERY)


def project(q: Tensor, r: Tensor, s: Tensor, c: Tensor, *, max_kl: float) -> tuple[Tensor, Tensor]:
    """The two coefficients, (tasks,), of x = along_reward H^-1 g + along_cost H^-1 b; symbols as in `cpo_dual.solve`.

    Section 4 of the paper, linearised as in its section 5: first y = argmax g'y s.t. 1/2 y'Hy <= delta, then
    x = argmin 1/2 (x - y)'H(x - y) s.t. c + b'x <= 0. In closed form

        y = sqrt(2 delta / q) H^-1 g,    x = y - max(0, (sqrt(2 delta / q) r + c) / s) H^-1 b,

    the paper's update with L = H, whose a, b are b, c here. As there, nothing keeps x within the trust region.
    """
    flat = classify(s, c, max_kl=max_kl) == Case.FLAT
    along_reward = torch.where(q > 0, (2.0 * max_kl / q).sqrt(), 0.0)
    excess = (along_reward * r + c).clamp_min(0.0)
    return along_reward, torch.where(flat, 0.0, -excess / s)


def shorten(q: Tensor, r: Tensor, s: Tensor, along_reward: Tensor, along_cost: Tensor, *, max_kl: float) -> Tensor:
    """The largest factor, at most 1, that keeps 1/2 x'Hx <= delta for x of `project`, (tasks,)."""
    # x'Hx of x = along_reward H^-1 g + along_cost H^-1 b
    square = along_reward.square() * q + 2.0 * along_reward * along_cost * r + along_cost.square() * s
    return torch.where(square > 2.0 * max_kl, (2.0 * max_kl / square).sqrt(), 1.0)
