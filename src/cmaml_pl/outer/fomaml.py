"""First-order MAML."""

from dataclasses import dataclass

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import lagrangian_advantage, likelihood_ratio
from cmaml_pl.math.natural_gradient import rowwise_gradient
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.outer.base import MetaLearner
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
    """

    method: str = "fomaml"
    passes: int = bounded(1, low=1)

    def _gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        advantage = lagrangian_advantage(post, multiplier)
        _, gradient = rowwise_gradient(
            lambda candidate: -(likelihood_ratio(actor, candidate, post) * advantage).mean(dim=1), adapted
        )
        return gradient.mean(dim=0)
