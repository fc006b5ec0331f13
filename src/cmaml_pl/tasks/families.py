"""Task families: where tasks are drawn from, and the environment that runs them.

A family is a frozen dataclass: its fields are the section `tasks` of the configuration.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.envs.nav2d import Nav2DEnv
from cmaml_pl.tasks.ranges import TEST_RANGES, draw
from cmaml_pl.tasks.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskFamily(ABC):
    """A distribution T over tasks, split into disjoint ranges of task ids.

    Attributes:
        family: registry name.
        train: number of training tasks.
        validation: number of validation tasks.
        test: number of test tasks.
    """

    family: str
    train: int = bounded(1000, low=1)
    validation: int = bounded(8, low=1)
    test: int = bounded(16, low=1)

    @abstractmethod
    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """The task with this number; always the same one."""

    @abstractmethod
    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """An environment for batches of this family's tasks.

        Args:
            num_tasks: tasks in a batch.
            num_envs: worlds of each task.
            horizon: steps of an episode.
            workers: threads or processes that step the worlds; None is one a core. nav2d needs none.
        """


@dataclass(frozen=True, kw_only=True)
class RangedFamily(TaskFamily):
    """A family whose tasks are drawn from ranges, and test tasks, if one likes, from outside of them.

    Attributes:
        test_range: whether test tasks are drawn inside or outside the training range.
    """

    test_range: str = bounded("inside", choices=TEST_RANGES)

    def draw(self, rng: np.random.Generator, task_id: int, inside: Sequence[float], outside: Sequence[float]) -> float:
        """Uniformly from `inside` or, for a test task outside the training range, the rest of the wider `outside`."""
        is_outside = self.test_range == "outside" and task_id >= self.train + self.validation
        return draw(rng, inside, outside if is_outside else None)


def split_tasks(family: TaskFamily, split: str, *, cost_limit: float) -> list[Task]:
    """All tasks of a split, "train", "validation" or "test": consecutive ranges of ids, so they never overlap."""
    starts = {"train": 0, "validation": family.train, "test": family.train + family.validation}
    sizes = {"train": family.train, "validation": family.validation, "test": family.test}
    return [family.task(starts[split] + i, cost_limit=cost_limit) for i in range(sizes[split])]


@dataclass(frozen=True, kw_only=True)
class Nav2DFamily(RangedFamily):
    """Constrained 2-D navigation: the unseen goal, `goal_x` and `goal_y`, is the task; every task has its hazards.

    Goals lie in every direction at distances of 1.2 to 1.3, beyond the hazards; outside that range, of up to 1.6.
    """

    family: str = "nav2d"
    validation: int = bounded(20, low=1)
    test: int = bounded(40, low=1)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([2, task_id])  # the goal's stream; the hazards' is the layout seed's own
        angle, distance = rng.uniform(0, 2 * math.pi), self.draw(rng, task_id, (1.2, 1.3), (1.2, 1.6))
        goal = {"goal_x": distance * math.cos(angle), "goal_y": distance * math.sin(angle)}
        return Task("nav2d", task_id, layout_seed=task_id, cost_limit=cost_limit, parameters=goal)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        return Nav2DEnv(num_tasks, num_envs, horizon=horizon)


@dataclass(frozen=True, kw_only=True)
class LayoutFamily(TaskFamily):
    """Safety-Gymnasium's own task with a fixed layout, kept on every reset: the layout is the task (the paper's).

    Attributes:
        env_id: Safety-Gymnasium id, e.g. SafetyPointGoal1-v0.
        engine: "fast" and "exact" are the modes of NavigationEnv, "original" is Safety-Gymnasium itself in worker
            processes, an order of magnitude slower. Ids that NavigationEnv does not run fall back to the original.
        first_layout: layout seed of task 0; task i has `first_layout` + i.
    """

    family: str = "layout"
    train: int = bounded(64, low=1)
    env_id: str = "SafetyPointGoal1-v0"
    engine: str = bounded("fast", choices=("fast", "exact", "original"))
    first_layout: int = bounded(0, low=0)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        return Task("layout", task_id, layout_seed=self.first_layout + task_id, cost_limit=cost_limit)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        # imported here: Safety-Gymnasium takes seconds to import, and other families do without it
        from cmaml_pl.envs.navigation import NavigationEnv, UnsupportedTaskError
        from cmaml_pl.envs.safety_gymnasium import ParallelSafetyEnv

        if self.engine != "original":
            try:
                return NavigationEnv(
                    self.env_id, num_tasks, num_envs, mode=self.engine, num_threads=workers, horizon=horizon
                )
            except UnsupportedTaskError as reason:
                logger.warning("%s. Safety-Gymnasium itself runs it, an order of magnitude slower.", reason)
        return ParallelSafetyEnv(self.env_id, num_tasks, num_envs, horizon=horizon, num_workers=workers)
