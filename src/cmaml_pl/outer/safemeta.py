"""The meta-training of SafeMeta (Xu & Zhu 2025, "Efficient Safe Meta-Reinforcement Learning", NeurIPS)."""

from dataclasses import dataclass

from torch import Tensor

from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaBatch, MetaGoal, TrustRegionLearner, task_gradients
from cmaml_pl.outer.safety import safety_gradient
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class SafeMeta(TrustRegionLearner):
    """A trust-region step on the adapted policies' reward, or on the meta-policy's cost while that is over its limit.

    The adapted policy is pi^p ~ pi_theta exp((A_r - u A_C) / eta). With the exponent held fixed, its score is that of
    the meta-policy up to a function of the state, so that the gradient of its return needs no derivative of the
    adaptation:

        grad J_r(pi^p) = E_post[A_r grad log pi^p(a|s)] = E_post[A_r grad log pi_theta(a|s)],

    on the adapted policies' rollouts. While mean_p J_C(pi_theta) > mean_p d^p, the step is one against
    E_pre[A_C grad log pi_theta(a|s)] instead, with A_C of the global safety critic. Nothing else restrains the
    meta-policy: there is no safety term.
    """

    method: str = "safemeta"

    def direction(self, actor: Actor, theta: Tensor, batch: MetaBatch) -> Tensor:
        """See OuterMethod.direction."""
        pre, ranks = batch.pre, batch.ranks
        if ranks.mean(pre.episode_cost) > ranks.mean(pre.cost_limit):
            return safety_gradient(actor, theta, pre, include_log_std=self.log_std)
        return self.learned(actor, -score_gradient(actor, theta, batch.goals[0], batch.threads).mean(dim=0))


def score_gradient(actor: Actor, theta: Tensor, goal: MetaGoal, threads: RowThreads) -> Tensor:
    """E_post[A_r grad log pi_theta(a|s)] at the meta-parameters `theta`, (P,), for each task, (tasks, P)."""

    def value(x: Tensor, post: TaskData, part: slice) -> Tensor:
        log_prob = gaussian_log_prob(*actor.stacked(x, post.features), post.action)
        return (log_prob * post.reward_signal).mean(dim=1)

    return task_gradients(value, theta.expand(len(goal.adapted), -1), goal.post, threads)
