"""The family of a Gymnasium environment of one's own, whose tasks differ in some of its parameters."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import LIMIT, TaskEnv
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.ranges import check_range, draw


@dataclass(frozen=True, kw_only=True)
class GymnasiumFamily(RangedFamily):
    """Any Gymnasium environment with vectors of observations and actions; each task has its own parameters of it.

    The parameters are hidden: the environment decides what it lets a policy observe.

    Attributes:
        env_id: Gymnasium id; MODULE:ID imports the module first, which registers the id.
        parameters: name of a parameter -> [low, high], from which it is drawn uniformly.
        outside_parameters: the wider ranges, for test tasks outside the training range; a parameter that is not named
            here has its training range.
        given_as: "attributes", which are set before each reset, or "keywords" of the constructor.
        options: further keywords of the constructor, the same for all tasks.
        cost: key of a step's info that holds its cost, or MODULE:FUNCTION, a function (observation, action, reward,
            info) -> cost; null if nothing costs.
    """

    family: str = "gymnasium"
    env_id: str = "Pendulum-v1"
    parameters: dict[str, Any] = field(default_factory=dict)
    outside_parameters: dict[str, Any] = field(default_factory=dict)
    given_as: str = bounded("attributes", choices=("attributes", "keywords"))
    options: dict[str, Any] = field(default_factory=dict)
    cost: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        for name, ends in self.parameters.items():
            check_range(f"parameters.{name}", ends)
            if name == LIMIT:
                raise UserError(f"tasks.parameters has {name}, which is the name of a task's cost limit.")
        for name, ends in self.outside_parameters.items():
            if name not in self.parameters:
                raise UserError(f"tasks.outside_parameters has {name}, which tasks.parameters does not have.")
            self.check_ranges(f"parameters.{name}", self.parameters[name], ends)
        if self.test_range == "outside" and not self.outside_parameters:
            raise UserError("tasks.test_range is outside, but tasks.outside_parameters is empty: name a wider range.")

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; in the environment's units."""
        return tuple(self.parameters)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([9, task_id])
        values = {
            name: self.draw(rng, task_id, ends, self.outside_parameters[name])
            if name in self.outside_parameters
            else draw(rng, ends)
            for name, ends in sorted(self.parameters.items())
        }
        return Task(self.family, task_id, task_id, cost_limit, values)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        from cmaml_pl.envs.gymnasium_env import GymnasiumEnv  # imported here, because other families do not need it

        # a constructor may need all of them, and worlds are made before they have a task
        first = {name: ends[0] for name, ends in self.parameters.items()} if self.given_as == "keywords" else {}
        return GymnasiumEnv(
            self.env_id,
            num_tasks,
            num_envs,
            horizon=horizon,
            num_workers=workers,
            reveal=self.reveal,
            options={**self.options, **first},
            given_as=self.given_as,
            cost=self.cost,
        )
