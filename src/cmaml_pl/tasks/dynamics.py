"""The family whose tasks differ in how the agent moves when it acts."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.task import Task
from cmaml_pl.tasks.factors import FactorsFamily
from cmaml_pl.tasks.navigation import NavigationFamily


@dataclass(frozen=True, kw_only=True)
class DynamicsFamily(NavigationFamily, FactorsFamily):
    """Safety-Gymnasium's own task, where each task has a fixed layout and its own factors `mass`, `damping` and `gear`.

    `mass` multiplies the agent's masses and inertias, `damping` the damping of its joints, and `gear` the gears of its
    actuators. The factors are not observed; only the motion reveals them. Goal and hazards are observed, so that a
    policy knows where to go, but has to find out how to brake and turn.
    """

    family: str = "dynamics"
    factors: list[float] = bounded([0.25, 1.75], low=0.05, high=20)
    outside_factors: list[float] = bounded([0.15, 2.25], low=0.05, high=20)

    names: ClassVar = ("mass", "damping", "gear")

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([4, task_id])  # the stream of the factors; the layout has another one
        return Task("dynamics", task_id, self.first_layout + task_id, cost_limit, self.draw_factors(rng, task_id))
