"""The interface of task families: a family draws tasks and makes the environment that runs them.

A family is a frozen dataclass. Its fields are the keys of the configuration's section `tasks`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task
from cmaml_pl.tasks.ranges import TEST_RANGES, check_range, check_wider, draw


@dataclass(frozen=True, kw_only=True)
class TaskFamily(ABC):
    """A distribution T over tasks, split into disjoint ranges of task ids.

    Attributes:
        family: registry name.
        train: number of training tasks.
        validation: number of validation tasks.
        test: number of test tasks.
        observe_task: whether what is hidden of a task follows the rest of its observations. The learner is then an
            oracle, which knows from the start what others adapt to find out: the yardstick of adaptation.
    """

    family: str
    train: int = bounded(1000, low=1)
    validation: int = bounded(8, low=1)
    test: int = bounded(16, low=1)
    observe_task: bool = False

    def __post_init__(self) -> None:
        """Check that there is something to observe."""
        if self.observe_task and not self.hidden_names():
            raise UserError(
                f"tasks.observe_task is true, but a task of the family {self.family} has no hidden parameters: it is "
                "all in the observation already. Leave it false, and ARM=oracle out."
            )

    def hidden_names(self) -> tuple[str, ...]:
        """What tells tasks apart and is not observed, by the names of `Task.parameters`; see `hidden_values`."""
        return ()

    @property
    def reveal(self) -> tuple[str, ...]:
        """What the environment adds to the observation."""
        return self.hidden_names() if self.observe_task else ()

    @abstractmethod
    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """The task with the number `task_id`; the same number always gives the same task.

        Args:
            task_id: number of the task within the family.
            cost_limit: d, the configuration's limit, cost per episode.
        """

    @abstractmethod
    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """An environment for batches of this family's tasks.

        Args:
            num_tasks: number of tasks in a batch.
            num_envs: number of worlds of each task.
            horizon: steps of an episode.
            workers: number of threads or processes that step the worlds; None for one per core. nav2d ignores it.
        """


@dataclass(frozen=True, kw_only=True)
class RangedFamily(TaskFamily):
    """A family whose tasks are drawn from ranges; its test tasks can be drawn from outside these ranges.

    Attributes:
        test_range: "inside" draws test tasks from the range of the training tasks, "outside" from a wider range without
            that of the training tasks.
    """

    test_range: str = bounded("inside", choices=TEST_RANGES)

    def draw(self, rng: np.random.Generator, task_id: int, inside: Sequence[float], outside: Sequence[float]) -> float:
        """A number drawn uniformly from the range `inside`, [low, high].

        For a test task with `test_range` "outside" it is drawn from the wider range `outside` without `inside`.
        """
        return draw(rng, inside, outside if self.is_outside(task_id) else None)

    def check_ranges(self, key: str, inside: Sequence[float], outside: Sequence[float]) -> None:
        """Raise a UserError unless tasks.`key` is a range, and tasks.outside_`key` a wider one if it is used."""
        check_range(key, inside)
        if self.test_range == "outside":
            check_wider(key, inside, outside)

    def is_outside(self, task_id: int) -> bool:
        """Whether a task is drawn from outside the range of the training tasks."""
        return self.test_range == "outside" and task_id >= self.train + self.validation


def split_tasks(family: TaskFamily, split: str, *, cost_limit: float) -> list[Task]:
    """All tasks of a split, "train", "validation" or "test". Splits are consecutive ranges of ids, without overlap."""
    starts = {"train": 0, "validation": family.train, "test": family.train + family.validation}
    sizes = {"train": family.train, "validation": family.validation, "test": family.test}
    return [family.task(starts[split] + i, cost_limit=cost_limit) for i in range(sizes[split])]
