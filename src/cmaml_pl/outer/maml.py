"""MAML with the derivative of the inner loop."""

from dataclasses import dataclass
from typing import ClassVar

from cmaml_pl.outer.fomaml import FOMAML


@dataclass(frozen=True, kw_only=True)
class MAML(FOMAML):
    """MAML (Finn, Abbeel & Levine 2017): g = mean_p (d theta^p / d theta)' grad_{theta^p} L_p(theta^p).

    L_p is that of `FOMAML`. The derivative is the product of those of the inner steps, see `TrustRegion.pull_back`. It
    rewards a start whose data tell the tasks apart and whose steps then lead far, which first order leaves out.
    """

    method: str = "maml"

    differentiates: ClassVar = True
