"""The family whose tasks differ in the body of a robot."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cmaml_pl.envs.locomotion_rules import FACTORS
from cmaml_pl.task import Task
from cmaml_pl.tasks.factors import FactorsFamily
from cmaml_pl.tasks.locomotion import LocomotionFamily


@dataclass(frozen=True, kw_only=True)
class HiddenBodyFamily(LocomotionFamily, FactorsFamily):
    """Safety-Gymnasium's velocity task, where each task has its own factors `mass`, `damping`, `gear` and `friction`.

    `mass` multiplies masses and inertias, `damping` the damping of the joints, `gear` the gears of the actuators, and
    `friction` that of contacts. The factors are not observed; only the motion reveals them.

    With `factors` [1, 1] all tasks are Safety-Gymnasium's own.
    """

    family: str = "hidden_body"

    names: ClassVar = FACTORS

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([8, task_id])
        return Task(self.family, task_id, task_id, cost_limit, self.draw_factors(rng, task_id))
