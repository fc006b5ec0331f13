"""Constrained Policy Optimization (Achiam et al. 2017, arXiv 1705.10528)."""

from dataclasses import dataclass, field

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.inner.linearised import linearise, reach_where_free, safe_line_search
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.math.cpo_dual import Case, CPOSolution, solve
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class CPO(InnerMethod):
    """argmax E[ratio * A_r] s.t. J_C + T E[ratio * A_C] <= d and E KL(old || new) <= max_kl, linearised.

    Equation numbers are those of the paper; the linearised problem is (11). T is the mean number of steps of an
    episode. If no step within the trust region can meet the limit, the step only lowers the cost, (14); such steps are
    counted as infeasible.

    The multiplier is nu, the dual variable of the limit. It is solved anew in each step, so that nothing is carried
    from step to step or from task to task. It weighs standardised advantages, as lambda of TRPO-Lagrangian does, so
    the outer loss uses it in place of lambda. A task that is not restrained by its limit has nu = 0. An infeasible task
    has an infinite nu, and the outer loss is given `multiplier_max` instead.

    Attributes:
        multiplier_max: largest nu that the outer loss is given (as TRPOLag); the step itself is not affected.
        trust_region: where a step may end. Its default takes 15 products with the Fisher matrix per gradient (OmniSafe)
            where TRPOLag takes 10: with 10, r (see `solve`) is off by up to 5 % of sqrt(q s) on nav2d, with 15 by 1 %.
    """

    method: str = "cpo"
    multiplier_max: float = bounded(10.0, low=0)
    trust_region: TrustRegion = field(default_factory=lambda: TrustRegion(cg_iterations=15))

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        region = self.trust_region
        problem = linearise(actor, theta, data, region)
        solution = solve(problem.q, problem.r, problem.s, problem.c, max_kl=region.max_kl)
        step = problem.step(solution.along_reward, solution.along_cost)
        step = reach_where_free(actor, theta, data, step, region, solution.case)
        keep_reward = solution.case >= Case.BOUNDED
        adapted, kl, share = safe_line_search(actor, theta, data, step, region, c=problem.c, keep_reward=keep_reward)
        return InnerStep(adapted, self._bounded(solution), kl, share, infeasible=solution.case == Case.RECOVERY)

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """The nu of the next step, which is not taken; see InnerMethod.judge."""
        problem = linearise(actor, theta, data, self.trust_region)
        nu = self._bounded(solve(problem.q, problem.r, problem.s, problem.c, max_kl=self.trust_region.max_kl))
        return nu, nu

    def _bounded(self, solution: CPOSolution) -> Tensor:
        return solution.cost_multiplier.clamp_max(self.multiplier_max)
