"""The family whose tasks differ in a goal that is not observed."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.navigation import NavigationFamily
from cmaml_pl.tasks.ranges import check_range, draw


@dataclass(frozen=True, kw_only=True)
class HiddenGoalFamily(NavigationFamily, RangedFamily):
    """Safety-Gymnasium's Goal or Push, where each task has one goal that is not observed: `goal_x` and `goal_y`, m.

    Only the reward tells where to go, so that no policy solves all tasks without adapting. These changes make the goal
    the task, and let the agent find the goal within a few episodes:

    - The goal stays. Safety-Gymnasium draws a new goal after each one that is reached, which would make the task a
      stream of unseen goals. Here the world instead goes back to its start, and the episode continues. The return then
      counts how often the goal was reached, as Safety-Gymnasium's own return counts goals.
    - Every episode of every task starts at the origin and faces along x. So a goal that was found once is the same in
      all episodes of the task, and a direction means the same in all tasks.
    - The agent's position replaces the goal's lidar in the observation (as in nav2d). Without the position, a robot
      without memory could not know whether it has gone too far.
    - Hazards and vases differ from task to task and are observed. They are placed before the goal and independently of
      it, so that they tell nothing about it. They often stand between start and goal: with the defaults, the straight
      way leads through a hazard in 40 % of the tasks, for 0.3 m on average.

    Attributes:
        env_id: Safety-Gymnasium id of a Goal or Push task.
        directions: range of the goals' directions from where the agent faces, positive to its left, degrees.
        outside_directions: the wider range, for test tasks outside the training range.
        distances: range of the goals' distances from the start, m.
    """

    family: str = "hidden_goal"
    validation: int = bounded(16, low=1)
    test: int = bounded(40, low=1)
    directions: list[float] = bounded([-90.0, 90.0], low=-180, high=180)
    outside_directions: list[float] = bounded([-135.0, 135.0], low=-180, high=180)
    distances: list[float] = bounded([1.1, 1.4], above=0)  # Safety-Gymnasium's hazards begin at 0.58 m

    env_options: ClassVar = {"hidden": ("goal",), "observe_position": True, "start": (0.0, 0.0, 0.0)}

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_range("distances", self.distances)
        self.check_ranges("directions", self.directions, self.outside_directions)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; m."""
        return ("goal_x", "goal_y")

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([3, task_id])  # the stream of the goal; the layout has another one
        direction = math.radians(self.draw(rng, task_id, self.directions, self.outside_directions))
        distance = draw(rng, self.distances)
        goal = {"goal_x": distance * math.cos(direction), "goal_y": distance * math.sin(direction)}
        return Task("hidden_goal", task_id, self.first_layout + task_id, cost_limit, goal)
