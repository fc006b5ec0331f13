"""Constrained Policy Optimization (Achiam et al. 2017, arXiv 1705.10528)."""

from dataclasses import dataclass, field

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.inner.linearised import linearise, safe_line_search
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.math.cpo_dual import Case, solve
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class CPO(InnerMethod):
    """argmax E[ratio * A_r] s.t. J_C + T E[ratio * A_C] <= d and E KL(old || new) <= max_kl, linearised: (11).

    T is the mean number of steps of an episode. Where no step within the trust region can meet the limit, the step only
    lowers the cost, (14); such steps are counted as infeasible.

    The multiplier is nu, solved anew in each step: nothing is carried from step to step or from task to task. It weighs
    standardised advantages, as TRPO-Lagrangian's lambda does, so the outer loss takes it in the same place. A task that
    its limit does not restrain has nu = 0; an infeasible one has an infinite nu, for which `multiplier_max` stands.

    Attributes:
        multiplier_max: largest nu that the outer loss is given (as TRPOLag); the step itself is not affected.
        trust_region: where a step may end. It takes more products with the Fisher matrix than TRPOLag's (OmniSafe):
            with 10, r is off by up to 5 % of sqrt(q s) on nav2d, with 15 by 1 %.
    """

    method: str = "cpo"
    multiplier_max: float = bounded(10.0, low=0)
    trust_region: TrustRegion = field(default_factory=lambda: TrustRegion(cg_iterations=15))

    def step(self, actor: GaussianActor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        region = self.trust_region
        problem = linearise(actor, theta, data, region)
        solution = solve(problem.q, problem.r, problem.s, problem.c, max_kl=region.max_kl)
        step = problem.step(solution.along_reward, solution.along_cost)
        keep_reward = solution.case >= Case.BOUNDED
        adapted, kl, share = safe_line_search(actor, theta, data, step, region, c=problem.c, keep_reward=keep_reward)
        nu = solution.cost_multiplier.clamp_max(self.multiplier_max)
        return InnerStep(adapted, nu, kl, share, infeasible=solution.case == Case.RECOVERY)
