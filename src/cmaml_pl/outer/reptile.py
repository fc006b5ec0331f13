"""Reptile."""

from dataclasses import dataclass

from torch import Tensor

from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.outer.base import MetaLearner
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class Reptile(MetaLearner):
    """Reptile in its batched form (Nichol, Achiam & Schulman 2018, section 3): g = mean_p (theta - theta^p).

    As its authors suggest, g is handed to Adam in place of a gradient. It has no `passes`: theta^p stays where it is,
    so that a second step on the same meta-batch goes on toward the same mean, as a larger `lr` would.
    """

    method: str = "reptile"

    def _gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        return (theta - adapted).mean(dim=0)
