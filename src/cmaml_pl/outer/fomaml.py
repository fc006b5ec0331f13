"""First-order MAML."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, lagrangian_advantage, likelihood_ratio
from cmaml_pl.math.trust_region import rowwise_gradient
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.outer.base import without_log_std
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class FOMAML:
    """First-order MAML (Finn, Abbeel & Levine 2017, section 5.2): g = mean_p grad_{theta^p} L_p(theta^p).

    L_p = -E_post[ratio * (A_r - lambda^p A_c) / (1 + lambda^p)]. The gradient is taken at theta^p and applied at theta:
    the Jacobian of the inner loop is replaced by the identity. With that replacement a step of theta moves every
    theta^p by as much, so the same data can serve `passes` steps: the ratio corrects for the distance from the policies
    that collected them.

    Attributes:
        lr: Adam's step size (its authors' default).
        passes: steps on one meta-batch; 1 is the algorithm as it is printed.
        max_kl: largest mean KL(old || new) of the meta-policy in a meta-iteration, nats; null leaves it to Adam.
        log_std: whether the meta-policy's exploration noise is learned. First order cannot see what noise is good for:
            a step within the trust region moves the mean action by at most sqrt(2 max_kl) standard deviations, so less
            noise, which pays after adaptation, leaves less to adapt with. On nav2d it starves adaptation.
    """

    method: str = "fomaml"
    lr: float = bounded(1.0e-3, above=0)
    passes: int = bounded(1, low=1)
    max_kl: float | None = bounded(None, above=0)
    log_std: bool = True

    @property
    def safety_term(self) -> bool:
        """As C-MAML adds it."""
        return True

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(parameters, lr=self.lr)

    def adaptation(self, inner: InnerMethod) -> InnerMethod:
        """As everywhere."""
        return inner

    def last_step(
        self, actor: GaussianActor, inner: InnerMethod, theta: Tensor, multiplier: Tensor, post: TaskData
    ) -> tuple[Tensor, Tensor]:
        """None: the rollouts of the adapted policies serve the gradient."""
        return theta, multiplier

    def gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        """See OuterMethod.gradient."""
        advantage = lagrangian_advantage(post, multiplier)
        _, gradient = rowwise_gradient(
            lambda candidate: -(likelihood_ratio(actor, candidate, post) * advantage).mean(dim=1), adapted
        )
        result = gradient.mean(dim=0)
        return result if self.log_std else without_log_std(actor, result)
