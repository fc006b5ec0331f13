"""First-order MAML."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from cmaml_pl.bounds import bounded
from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.inner.base import clipped_surrogate, lagrangian_advantage, likelihood_ratio
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaBatch, MetaGoal, MetaLearner, task_gradients
from cmaml_pl.outer.lengths import length_slopes
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class FOMAML(MetaLearner):
    """First-order MAML (Finn, Abbeel & Levine 2017, section 5.2): g = mean_p grad_{theta^p} L_p(theta^p).

    L_p = -E_post[ratio * (A_r - lambda^p A_c) / (1 + lambda^p)]. The gradient is computed at theta^p and applied at
    theta, which replaces the Jacobian of the inner loop by the identity. With this replacement, a step of theta moves
    every theta^p by the same amount. The same data can therefore be used for `passes` steps: the ratio corrects for the
    distance from the policies that collected the data.

    Attributes:
        passes: number of steps on one meta-batch; 1 is the algorithm as printed.
        every_step: whether g is the mean over the policies before adaptation and after each of its steps, and not only
            that of the last (Antoniou, Edwards & Storkey 2019, MAML++, multi-step loss, with equal weights).
        clip: clips the likelihood ratio to [1 - clip, 1 + clip], as in PPO (Schulman et al. 2017); null does not clip.
        radius_lr: how fast the lengths of the adaptation steps are learned, see `move_lengths`; 0 keeps those that are
            configured.
    """

    method: str = "fomaml"
    passes: int = bounded(1, low=1)
    every_step: bool = False
    clip: float | None = bounded(None, above=0)
    radius_lr: float = bounded(0.0, low=0)

    def length_gradient(self, actor: Actor, batch: MetaBatch) -> Tensor:
        """The mean over the goals of `length_slopes`; see OuterMethod.length_gradient."""
        slopes = []
        for goal in batch.goals:
            rows = length_slopes(batch.start, goal, self._gradients(actor, batch.start, goal, batch.threads))
            # an earlier policy does not depend on later steps
            slopes.append(pad(rows, (0, len(batch.goals[0].steps) - len(goal.steps))))
        return batch.ranks.mean(torch.stack(slopes).mean(dim=0))

    def _gradients(self, actor: Actor, theta: Tensor, goal: MetaGoal, threads: RowThreads) -> Tensor:
        return lagrangian_gradients(actor, goal, threads, clip=self.clip)


def lagrangian_gradients(actor: Actor, goal: MetaGoal, threads: RowThreads, *, clip: float | None = None) -> Tensor:
    """Grad L_p of FOMAML at the adapted parameters, (tasks, P)."""
    advantages = lagrangian_advantage(goal.post, goal.weight)

    def loss(x: Tensor, post: TaskData, part: slice) -> Tensor:
        ratio, advantage = likelihood_ratio(actor, x, post), advantages[part]
        return -((ratio * advantage).mean(dim=1) if clip is None else clipped_surrogate(ratio, advantage, clip))

    return task_gradients(loss, goal.adapted, goal.post, threads)
