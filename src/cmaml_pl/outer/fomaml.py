"""First-order MAML."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.inner.base import lagrangian_advantage, likelihood_ratio
from cmaml_pl.math.natural_gradient import rowwise_gradient
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaGoal, MetaLearner
from cmaml_pl.rollout.task_data import select


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
    """

    method: str = "fomaml"
    passes: int = bounded(1, low=1)
    every_step: bool = False
    clip: float | None = bounded(None, above=0)

    def _gradients(self, actor: Actor, theta: Tensor, goal: MetaGoal, threads: RowThreads) -> Tensor:
        def gradient(part: slice) -> Tensor:
            data = select(goal.post, part)
            advantage = lagrangian_advantage(data, goal.weight[part])
            _, rows = rowwise_gradient(
                lambda x: -self._surrogate(likelihood_ratio(actor, x, data), advantage), goal.adapted[part]
            )
            return rows

        return torch.cat(threads.map(gradient, len(goal.adapted)))

    def _surrogate(self, ratio: Tensor, advantage: Tensor) -> Tensor:
        """E[ratio * A], (tasks,), clipped where that is asked for: E[min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)]."""
        plain = ratio * advantage
        if self.clip is None:
            return plain.mean(dim=1)
        return torch.minimum(plain, ratio.clamp(1.0 - self.clip, 1.0 + self.clip) * advantage).mean(dim=1)
