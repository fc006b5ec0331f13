"""The common base of the families whose tasks differ in factors of a robot's physical parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.tasks.base import RangedFamily


@dataclass(frozen=True, kw_only=True)
class FactorsFamily(RangedFamily):
    """A family whose tasks have hidden factors; only the motion reveals them.

    Attributes:
        factors: range of the factors; each is drawn uniformly.
        outside_factors: the wider range; a test task outside the training range draws all factors from it.
        names: what a task has a factor of.
    """

    factors: list[float] = bounded([0.5, 1.5], low=0.05, high=20)
    outside_factors: list[float] = bounded([0.25, 2.0], low=0.05, high=20)

    names: ClassVar[Sequence[str]]

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self.check_ranges("factors", self.factors, self.outside_factors)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; factors."""
        return tuple(self.names)

    def draw_factors(self, rng: np.random.Generator, task_id: int) -> dict[str, float]:
        """The factors of a task."""
        return {name: self.draw(rng, task_id, self.factors, self.outside_factors) for name in self.names}
