"""The family whose task is a goal that is not observed."""

import math
from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.tasks.ranges import TEST_RANGES, check_range, check_ranges, draw
from cmaml_pl.tasks.task import Task


@dataclass(frozen=True)
class HiddenGoalFamily:
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
      defaults, the straight way costs more than 5 an episode of 500 steps in a quarter of the tasks.

    Attributes:
        env_id: Safety-Gymnasium id of a Goal or Push task.
        engine: mode of NavigationEnv.
        first_layout: layout seed of task 0; task i has `first_layout` + i.
        directions: of goals from where the agent faces, to its left, degrees.
        outside_directions: the wider range, which test tasks outside the training range come from.
        distances: of goals from the start, m.
        test_range: whether test tasks are drawn inside or outside the training range.
    """

    family: str = "hidden_goal"
    train: int = bounded(1000, low=1)
    validation: int = bounded(16, low=1)
    test: int = bounded(40, low=1)
    env_id: str = "SafetyPointGoal1-v0"
    engine: str = bounded("fast", choices=("fast", "exact"))
    first_layout: int = bounded(0, low=0)
    directions: list[float] = bounded([-90.0, 90.0], low=-180, high=180)
    outside_directions: list[float] = bounded([-135.0, 135.0], low=-180, high=180)
    distances: list[float] = bounded([1.1, 1.4], above=0)  # Safety-Gymnasium's hazards begin at 0.58
    test_range: str = bounded("inside", choices=TEST_RANGES)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("distances", self.distances)
        check_ranges("directions", self.directions, self.outside_directions)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([3, task_id])  # the goal's stream; the layout has its own
        outside = self.test_range == "outside" and task_id >= self.train + self.validation
        direction = math.radians(draw(rng, self.directions, self.outside_directions if outside else None))
        distance = draw(rng, self.distances)
        goal = {"goal_x": distance * math.cos(direction), "goal_y": distance * math.sin(direction)}
        return Task("hidden_goal", task_id, self.first_layout + task_id, cost_limit, goal)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        # imported here: Safety-Gymnasium takes seconds to import, and other families do without it
        from cmaml_pl.envs.navigation import NavigationEnv

        return NavigationEnv(
            self.env_id,
            num_tasks,
            num_envs,
            mode=self.engine,
            num_threads=workers,
            horizon=horizon,
            hidden=("goal",),
            observe_position=True,
            start=(0.0, 0.0, 0.0),
        )
