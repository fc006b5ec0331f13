"""The outer method Reptile."""

from dataclasses import dataclass

from torch import Tensor

from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaGoal, MetaLearner


@dataclass(frozen=True, kw_only=True)
class Reptile(MetaLearner):
    """Reptile in its batched form (Nichol, Achiam & Schulman 2018, section 3): g = mean_p (theta - theta^p).

    As its authors suggest, Adam is given g in place of a gradient. There are no `passes`: theta^p does not change, so a
    second step on the same meta-batch would only move further toward the same mean, as a larger `lr` does.
    """

    method: str = "reptile"

    def _gradients(self, actor: Actor, theta: Tensor, goal: MetaGoal, threads: RowThreads) -> Tensor:
        return theta - goal.adapted
