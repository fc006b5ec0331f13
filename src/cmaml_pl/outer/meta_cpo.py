"""Meta-CPO (Cho & Sun 2024, "Constrained Meta-Reinforcement Learning for Adaptable Safety Guarantee", AAAI)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.inner.linearised import reach_where_free, solve_products
from cmaml_pl.inner.trust_region import surrogate
from cmaml_pl.math.advantages import spread, standardise
from cmaml_pl.math.cpo_dual import Case, solve
from cmaml_pl.math.natural_gradient import line_search
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaBatch, MetaGoal, TrustRegionLearner, task_gradients
from cmaml_pl.rollout.task_data import gather, pool


@dataclass(frozen=True, kw_only=True)
class MetaCPO(TrustRegionLearner):
    """A step of CPO for the meta-policy, on the mean reward and the mean cost of the adapted policies.

        max_x mean_p g^p'x   s.t.   c + mean_p b^p'x <= 0,   1/2 x'Hx <= max_kl,
        c = (mean_p J_C^p - mean_p d^p) / (T sigma)

    g^p and b^p are the gradients of the surrogates of reward and cost at theta^p, on the adapted policies' rollouts; T
    is their mean number of steps of an episode, and sigma the deviation of their cost advantages. H is the Fisher
    matrix of the meta-policy on its own rollouts. `math.cpo_dual.solve` gives the step. A line search shortens it until
    the surrogates at theta^p + x meet the conditions of CPO's line search, see `safe_line_search`.

    The paper takes g^p and b^p through the derivative of the inner steps; its code replaces the Fisher matrix by the
    identity there and keeps the diagonal. Here they are taken at first order, as for the other methods. Nothing else
    restrains the meta-policy: there is no safety term.
    """

    method: str = "meta_cpo"

    def precondition(self, actor: Actor, theta: Tensor, gradient: Tensor, batch: MetaBatch) -> Tensor:
        """The gradient itself: `direction` is minus the step, the same on all ranks."""
        return gradient

    def direction(self, actor: Actor, theta: Tensor, batch: MetaBatch) -> Tensor:
        """See OuterMethod.direction."""
        goal, ranks, region, old = batch.goals[0], batch.ranks, self.region, theta[None]
        post, states = goal.post, pool(gather(batch.pre, batch.ranks))
        # one unit for all tasks, so that the mean of their surrogates is the surrogate of their mean cost
        sigma = ranks.mean(spread(post.cost_advantage)[:, 0].square()).sqrt()
        unit = ranks.mean(post.episode_steps) * sigma.where(sigma > 0, torch.ones_like(sigma))
        c = (ranks.mean(post.episode_cost) - ranks.mean(post.cost_limit)) / unit

        signals = (post.reward_signal, standardise(post.cost_advantage, sigma.expand(len(goal.adapted))))
        g, b = (
            self.learned(actor, ranks.mean(surrogate_gradients(actor, goal, signal, batch.threads)))[None]
            for signal in signals
        )
        problem = solve_products(region.fisher(actor, old, states), g, b, c[None], iterations=region.cg_iterations)
        solution = solve(problem.q, problem.r, problem.s, problem.c, max_kl=region.max_kl)
        step = problem.step(solution.along_reward, solution.along_cost)
        step = reach_where_free(actor, old, states, step, region, solution.case)

        def surrogates(x: Tensor) -> list[Tensor]:  # (1, P) -> (1,)
            moved = goal.adapted + (x - old)
            return [ranks.mean(surrogate(actor, moved, post, signal))[None] for signal in signals]

        least, most = surrogates(old)

        def accept(x: Tensor) -> Tensor:
            reward, cost = surrogates(x)
            better = ((reward >= least) | (solution.case < Case.BOUNDED)) & (cost <= most + (-c).clamp_min(0.0))
            fine = better & (mean_kl(actor, x, states) <= region.max_kl)
            # ranks on other hardware differ in the last bits, but all have to try the same lengths
            return ranks.mean(fine[None].to(x)) == 1.0

        new, _ = line_search(accept, old, step, ratio=region.line_search_ratio, tries=region.line_search_tries)
        return (old - new)[0]


def surrogate_gradients(actor: Actor, goal: MetaGoal, advantage: Tensor, threads: RowThreads) -> Tensor:
    """The gradient of each task's E[ratio * advantage] at the adapted parameters, (tasks, P)."""
    return task_gradients(
        lambda x, post, part: surrogate(actor, x, post, advantage[part]), goal.adapted, goal.post, threads
    )
