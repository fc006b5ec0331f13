"""What a task family is: where tasks are drawn from, and the environment that runs them.

A family is a frozen dataclass: its fields are the section `tasks` of the configuration.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task
from cmaml_pl.tasks.ranges import TEST_RANGES, draw


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
