"""The family whose task is a goal that is not observed."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.navigation import NavigationFamily
from cmaml_pl.tasks.ranges import check_range, check_ranges, draw


@dataclass(frozen=True, kw_only=True)
class HiddenGoalFamily(NavigationFamily, RangedFamily):
    """Safety-Gymnasium's Goal or Push with one goal a task, which is not observed: `goal_x` and `goal_y`, m.

    Nothing but reward tells where to go, so that no policy solves all tasks without adapting. For the goal to be *the*
    task, and to be found within a few episodes,

    - it stays: Safety-Gymnasium's new goal after each one reached would make the task a stream of unseen goals. Instead
      the world goes back to its start, the episode goes on, and the return counts the ways made to the goal, as
      Safety-Gymnasium's own counts goals;
    - every episode of every task starts at the origin, facing along x, so that a goal is learned once for all of its
      episodes and its direction means the same in all tasks;
    - the agent's position takes the place of the goal's lidar in the observation (as in nav2d): without it, a robot
      that keeps no memory could not tell whether it has gone too far;
    - hazards and vases differ from task to task and are observed. They are placed before the goal is and without
      regard to it, so that they say nothing about it, and they stand between many a goal and the start: with the
      defaults, the straight way leads through a hazard in 40 % of the tasks, for 0.3 m on the average.

    Attributes:
        env_id: Safety-Gymnasium id of a Goal or Push task.
        directions: of goals from where the agent faces, to its left, degrees.
        outside_directions: the wider range, which test tasks outside the training range come from.
        distances: of goals from the start, m.
    """

    family: str = "hidden_goal"
    validation: int = bounded(16, low=1)
    test: int = bounded(40, low=1)
    directions: list[float] = bounded([-90.0, 90.0], low=-180, high=180)
    outside_directions: list[float] = bounded([-135.0, 135.0], low=-180, high=180)
    distances: list[float] = bounded([1.1, 1.4], above=0)  # Safety-Gymnasium's hazards begin at 0.58

    env_options: ClassVar = {"hidden": ("goal",), "observe_position": True, "start": (0.0, 0.0, 0.0)}

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("distances", self.distances)
        check_ranges("directions", self.directions, self.outside_directions)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; m."""
        return ("goal_x", "goal_y")

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([3, task_id])  # the goal's stream; the layout has its own
        direction = math.radians(self.draw(rng, task_id, self.directions, self.outside_directions))
        distance = draw(rng, self.distances)
        goal = {"goal_x": distance * math.cos(direction), "goal_y": distance * math.sin(direction)}
        return Task("hidden_goal", task_id, self.first_layout + task_id, cost_limit, goal)
