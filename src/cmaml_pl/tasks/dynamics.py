"""The family whose task is how the agent answers to its actions."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.navigation import NavigationFamily
from cmaml_pl.tasks.ranges import check_ranges

FACTORS = ("mass", "damping", "gear")
"""What a task has a factor of."""


@dataclass(frozen=True, kw_only=True)
class DynamicsFamily(NavigationFamily, RangedFamily):
    """Safety-Gymnasium's own task with a fixed layout and an agent of another make: `mass`, `damping` and `gear`.

    Each is a factor of the agent's masses and inertias, of its joints' damping, or of its actuators' gears. None is
    observed: what they do to the motion is all that tells them. Goal and hazards are observed, so that a policy can
    know where to go, and has to find out how to brake and turn.

    Attributes:
        factors: range of all three, each drawn uniformly.
        outside_factors: the wider range, which all three factors of a test task outside the training range come from.
    """

    family: str = "dynamics"
    factors: list[float] = bounded([0.25, 1.75], low=0.05, high=20)
    outside_factors: list[float] = bounded([0.15, 2.25], low=0.05, high=20)

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges("factors", self.factors, self.outside_factors)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; factors."""
        return FACTORS

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([4, task_id])  # the factors' stream; the layout has its own
        factors = {name: self.draw(rng, task_id, self.factors, self.outside_factors) for name in FACTORS}
        return Task("dynamics", task_id, self.first_layout + task_id, cost_limit, factors)
