"""The family whose tasks differ in the body of a robot."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.locomotion_rules import FACTORS
from cmaml_pl.task import Task
from cmaml_pl.tasks.locomotion import LocomotionFamily


@dataclass(frozen=True, kw_only=True)
class HiddenBodyFamily(LocomotionFamily):
    """Safety-Gymnasium's velocity task, where each task has its own factors `mass`, `damping`, `gear` and `friction`.

    `mass` multiplies masses and inertias, `damping` the damping of the joints, `gear` the gears of the actuators, and
    `friction` that of contacts. The factors are not observed; only the motion reveals them.

    Attributes:
        factors: range of the factors; each is drawn uniformly. With [1, 1] all tasks are Safety-Gymnasium's own.
        outside_factors: the wider range; a test task outside the training range draws all factors from it.
    """

    family: str = "hidden_body"
    factors: list[float] = bounded([0.5, 1.5], low=0.05, high=20)
    outside_factors: list[float] = bounded([0.25, 2.0], low=0.05, high=20)

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self.check_ranges("factors", self.factors, self.outside_factors)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; factors."""
        return FACTORS

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([8, task_id])
        factors = {name: self.draw(rng, task_id, self.factors, self.outside_factors) for name in FACTORS}
        return Task(self.family, task_id, task_id, cost_limit, factors)
