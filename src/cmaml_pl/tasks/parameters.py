"""The common base of the families of environments of a user's own, whose tasks differ in some parameters of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cmaml_pl.envs.base import LIMIT
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.ranges import check_range, draw


@dataclass(frozen=True, kw_only=True)
class ParametersFamily(RangedFamily):
    """A family whose tasks have parameters of their own, which the environment takes.

    The parameters are hidden: the environment decides what it lets a policy observe.

    Attributes:
        parameters: name of a parameter -> [low, high], from which it is drawn uniformly.
        outside_parameters: the wider ranges, for test tasks outside the training range; a parameter that is not named
            here has its training range.
        options: further keywords of the environment's constructor, the same for all tasks.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    outside_parameters: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

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

    def first_options(self) -> dict[str, Any]:
        """The options with a value of each parameter, because a constructor may need all before there is a task."""
        return {**self.options, **{name: ends[0] for name, ends in self.parameters.items()}}
