"""TRPO on the reward minus a fixed multiple of the cost; an inner method."""

from dataclasses import dataclass, field

import torch

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod, InnerStep, lagrangian_advantage
from cmaml_pl.inner.trust_region import TrustRegion


@dataclass(frozen=True, kw_only=True)
class FixedPenalty(InnerMethod):
    """Its fields are the keys of the section `inner`; `weight` is that of the cost."""

    method: str = "penalty:FixedPenalty"
    weight: float = bounded(1.0, low=0)
    trust_region: TrustRegion = field(default_factory=TrustRegion)

    def step(self, actor, theta, multiplier, data):
        """One step for all tasks at once."""
        weight = torch.full_like(multiplier, self.weight)
        adapted, kl, share = self.trust_region.step(actor, theta, data, lagrangian_advantage(data, weight))
        return InnerStep(adapted, weight, kl, share, infeasible=torch.zeros_like(share, dtype=torch.bool))
