"""Constrained Policy Optimization (Achiam et al. 2017, arXiv 1705.10528)."""

from dataclasses import dataclass

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerStep
from cmaml_pl.inner.steps import linearise, safe_line_search
from cmaml_pl.math.cpo_dual import Case, solve
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class CPO:
    """argmax E[ratio * A_r] s.t. J_C + T E[ratio * A_C] <= d and E KL(old || new) <= max_kl, linearised: (11).

    T is the mean number of steps of an episode. Where no step within the trust region can meet the limit, the step only
    lowers the cost, (14); such steps are counted as infeasible.

    The multiplier is nu, solved anew in each step: nothing is carried from step to step or from task to task. It weighs
    standardised advantages, as TRPO-Lagrangian's lambda does, so the outer loss takes it in the same place. A task that
    its limit does not restrain has nu = 0; an infeasible one has an infinite nu, for which `multiplier_max` stands.

    Attributes:
        steps: K, adaptation steps, each on new data.
        max_kl: delta, nats (as TRPOLag).
        cost_limit: d, undiscounted cost per episode.
        multiplier_max: largest nu that the outer loss is given (as TRPOLag); the step itself is not affected.
        cg_iterations: products with the Fisher matrix for each of the two gradients (OmniSafe). More than TRPOLag's:
            with 10, r is off by up to 5 % of sqrt(q s) on nav2d, with 15 by 1 %.
        cg_damping: added to its diagonal (OmniSafe).
        fisher_every: the Fisher matrix is averaged over every so many-th state (as TRPOLag).
        line_search_ratio: each try is so much shorter (OmniSafe).
        line_search_tries: lengths tried (OmniSafe).
    """

    method: str = "cpo"
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
        """Without effect: nu is solved anew."""
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
        solution = solve(problem.q, problem.r, problem.s, problem.c, max_kl=self.max_kl)
        adapted, kl, share = safe_line_search(
            actor,
            theta,
            data,
            problem.step(solution.along_reward, solution.along_cost),
            c=problem.c,
            keep_reward=solution.case >= Case.BOUNDED,
            max_kl=self.max_kl,
            line_search_ratio=self.line_search_ratio,
            line_search_tries=self.line_search_tries,
        )
        nu = solution.cost_multiplier.clamp_max(self.multiplier_max)
        return InnerStep(adapted, nu, kl, share, infeasible=solution.case == Case.RECOVERY)
