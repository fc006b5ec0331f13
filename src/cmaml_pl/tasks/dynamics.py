"""The family whose tasks differ in how the agent moves when it acts."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.navigation import NavigationFamily

FACTORS = ("mass", "damping", "gear")
"""What a task has a factor of."""


@dataclass(frozen=True, kw_only=True)
class DynamicsFamily(NavigationFamily, RangedFamily):
    """Safety-Gymnasium's own task, where each task has a fixed layout and its own factors `mass`, `damping` and `gear`.

    `mass` multiplies the agent's masses and inertias, `damping` the damping of its joints, and `gear` the gears of its
    actuators. The factors are not observed; only the motion reveals them. Goal and hazards are observed, so that a
    policy knows where to go, but has to find out how to brake and turn.

    Attributes:
        factors: range of the three factors; each is drawn uniformly.
        outside_factors: the wider range; a test task outside the training range draws all three factors from it.
    """

    family: str = "dynamics"
    factors: list[float] = bounded([0.25, 1.75], low=0.05, high=20)
    outside_factors: list[float] = bounded([0.15, 2.25], low=0.05, high=20)

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self.check_ranges("factors", self.factors, self.outside_factors)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; factors."""
        return FACTORS

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([4, task_id])  # the stream of the factors; the layout has another one
        factors = {
            name: self.draw(rng, task_id, self.factors, self.outside_factors) for name in ("mass", "damping", "gear")
        }
        return Task("dynamics", task_id, self.first_layout + task_id, cost_limit, factors)
