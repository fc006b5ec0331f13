"""Reptile."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.outer.base import without_log_std
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class Reptile:
    """Reptile in its batched form (Nichol, Achiam & Schulman 2018, section 3): g = mean_p (theta - theta^p).

    As its authors suggest, g is handed to Adam in place of a gradient. It has no `passes`: theta^p stays where it is, so
    that a second step on the same meta-batch goes on toward the same mean, as a larger `lr` would.

    Attributes:
        lr: Adam's step size (its authors' default).
        max_kl: largest mean KL(old || new) of the meta-policy in a meta-iteration, nats; null leaves it to Adam.
        log_std: whether the meta-policy's exploration noise is learned; see FOMAML.
    """

    method: str = "reptile"
    lr: float = bounded(1.0e-3, above=0)
    max_kl: float | None = bounded(None, above=0)
    log_std: bool = True

    @property
    def passes(self) -> int:
        """One."""
        return 1

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
        """See OuterMethod.last_step."""
        return theta, multiplier

    def gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        """See OuterMethod.gradient."""
        result = (theta - adapted).mean(dim=0)
        return result if self.log_std else without_log_std(actor, result)
