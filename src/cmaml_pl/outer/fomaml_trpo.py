"""First-order MAML whose meta-step is one of TRPO."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaBatch, TrustRegionLearner
from cmaml_pl.outer.fomaml import lagrangian_gradients


@dataclass(frozen=True, kw_only=True)
class FOMAMLTRPO(TrustRegionLearner):
    """First-order MAML with TRPO as the meta-optimiser, as Finn, Abbeel & Levine 2017 (section 5.3) have it for RL.

    The gradient is that of `FOMAML`, with the safety term. The meta-policy takes a trust-region step against it: in the
    metric of its Fisher matrix, and as far as `max_kl` allows, whatever the length of the gradient. Adam instead scales
    each parameter by itself, and its steps are as long in parameters as `lr` says.

    Attributes:
        every_step: as in FOMAML.
    """

    method: str = "fomaml_trpo"
    every_step: bool = False

    @property
    def safety_term(self) -> bool:
        """True: the safety term is added to the gradient."""
        return True

    def direction(self, actor: Actor, theta: Tensor, batch: MetaBatch) -> Tensor:
        """See OuterMethod.direction."""
        means = [lagrangian_gradients(actor, goal, batch.threads).mean(dim=0) for goal in batch.goals]
        return self.learned(actor, torch.stack(means).mean(dim=0))
