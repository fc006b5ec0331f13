"""The family whose tasks differ in an unobserved goal in the plane; small enough to try an idea in a minute."""

import math
from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.envs.nav2d import COSTLY, Nav2DEnv
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily


@dataclass(frozen=True, kw_only=True)
class Nav2DFamily(RangedFamily):
    """Constrained 2-D navigation. Tasks differ in a goal that is not observed, `goal_x` and `goal_y`, and in hazards.

    Goals lie in all directions. Their distances from the start are 1.2 to 1.3, beyond the hazards; for test tasks
    outside the training range they are 1.3 to 1.6.

    With `conflict` the constraints of tasks may conflict: one of the two hazards costs, and what one task must go
    around is the free way in another. Lidars tell the first hazard from the second; which of them costs is hidden.

    Attributes:
        conflict: degree to which the constraints of tasks conflict. The second hazard costs with probability
            conflict / 2, the first one otherwise: at 0 the first one in all tasks, at 1 each in half of them. null:
            both cost in all tasks, and one lidar sees them.
    """

    family: str = "nav2d"
    validation: int = bounded(20, low=1)
    test: int = bounded(40, low=1)
    conflict: float | None = bounded(None, low=0, high=1)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; the goal in the unit of positions, and with `conflict` the hazard that costs, 0 or 1."""
        return ("goal_x", "goal_y", *([] if self.conflict is None else [COSTLY]))

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([2, task_id])  # the stream of the goal; the hazards have that of the layout seed
        angle, distance = rng.uniform(0, 2 * math.pi), self.draw(rng, task_id, (1.2, 1.3), (1.2, 1.6))
        hidden = {"goal_x": distance * math.cos(angle), "goal_y": distance * math.sin(angle)}
        if self.conflict is not None:  # drawn last: all else is the same at every degree
            hidden[COSTLY] = float(rng.uniform() < self.conflict / 2)
        return Task("nav2d", task_id, layout_seed=task_id, cost_limit=cost_limit, parameters=hidden)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily; one thread steps all worlds, so `workers` is ignored."""
        return Nav2DEnv(num_tasks, num_envs, horizon=horizon, reveal=self.reveal, one_costs=self.conflict is not None)
