"""Meta-SRL (Khattar, Ding, Sel, Lavaei & Jin 2023, "A CMDP-within-online Framework", ICLR): where and how far."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaBatch, MetaGoal, MetaLearner, task_gradients
from cmaml_pl.outer.lengths import bound_slope
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class MetaSRL(MetaLearner):
    """Moves the meta-policy toward the adapted policies: g = mean_p grad_theta E_post KL(pi^p || pi_theta).

    The paper bounds the regret of a task's safe adaptation by the divergence of the task's policy from the
    initialisation, weighed by the states that the task's policy visits, and descends these bounds from task to task.
    Here all tasks of a batch count in one step. The paper estimates the weights of the states from data of the whole
    adaptation (DualDICE); the rollouts of the adapted policies are samples of them. This is Reptile with the distance
    of policies in place of that of parameters. The bounds also give the step size of the adaptation, see `bound_slope`.

    Attributes:
        passes: number of steps on one meta-batch. The divergence is known for every theta, so that further steps lead
            to a better initialisation for the batch.
        radius_lr: how fast the length of the adaptation steps is learned, see `bound_slope`; 0 keeps it as configured.
    """

    method: str = "meta_srl"
    passes: int = bounded(1, low=1)
    radius_lr: float = bounded(0.0, low=0)

    @property
    def safety_term(self) -> bool:
        """False: the adapted policies are within their limits, and the initialisation follows them."""
        return False

    @torch.no_grad()
    def length_gradient(self, actor: Actor, batch: MetaBatch) -> Tensor:
        """`bound_slope`, the same for all steps; see OuterMethod.length_gradient."""
        goal = batch.goals[0]
        distance = mean_kl(actor, batch.start.expand(len(goal.adapted), -1), goal.post)
        walked = torch.stack([step.kl for step in goal.steps]).sum(dim=0)
        return bound_slope(*batch.ranks.mean(torch.stack([distance, walked], dim=1))).expand(len(goal.steps))

    def _gradients(self, actor: Actor, theta: Tensor, goal: MetaGoal, threads: RowThreads) -> Tensor:
        def loss(x: Tensor, post: TaskData, part: slice) -> Tensor:
            return mean_kl(actor, x, post)  # pi^p collected `post`

        return task_gradients(loss, theta.expand(len(goal.adapted), -1), goal.post, threads)
