"""Reads `Task.parameters`, in which tasks can differ besides their layout, into arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError, did_you_mean
from ...task import Task
from ..physics import Array
from .definition import Definition
from .rules import own_weights

FACTORS = ("mass", "damping", "gear")
"""Names of the factors of the agent's masses and inertias, joint damping and actuator gears."""
GOAL = ("goal_x", "goal_y")
"""Names of the coordinates of a fixed goal, m."""
COST_PREFIX = "cost_"
"""This prefix and the name of a group are the name of the weight of the group's cost."""
_LEAST_FACTOR, _MOST_FACTOR = 0.05, 20.0  # beyond these, the models' time steps are too coarse, or nothing moves


@dataclass(frozen=True)
class Parameters:
    """The parameters of n tasks, or of n worlds.

    Attributes:
        factors: factors in the order of FACTORS, (n, 3).
        goals: positions of fixed goals, m, (n, 2); NaN if Safety-Gymnasium draws the goals.
        weights: cost weights of the groups that can cost, in the order of `Definition.costly`, (n, groups).
    """

    factors: Array
    goals: Array
    weights: Array


def own_parameters(definition: Definition, num_worlds: int) -> Parameters:
    """The parameters of `num_worlds` worlds as Safety-Gymnasium defines them."""
    return Parameters(
        factors=np.ones((num_worlds, len(FACTORS))),
        goals=np.full((num_worlds, len(GOAL)), np.nan),
        weights=np.tile(own_weights(definition), (num_worlds, 1)),
    )


def read_parameters(definition: Definition, tasks: Sequence[Task]) -> Parameters:
    """The tasks' parameters; a parameter that a task does not give has Safety-Gymnasium's own value.

    Raises:
        UserError: the engine does not know a parameter, the task's id does not have it, or it is out of range; the
            message names it.
    """
    parameters = own_parameters(definition, len(tasks))
    costs = [COST_PREFIX + group.name for group in definition.costly]
    known = [*(GOAL if _has_goal(definition) else ()), *costs, *FACTORS]
    columns: Mapping[str, Array] = dict(
        zip(
            [*FACTORS, *GOAL, *costs],
            [*parameters.factors.T, *parameters.goals.T, *parameters.weights.T],
            strict=True,
        )
    )
    for row, task in enumerate(tasks):
        for name, value in task.parameters.items():
            if name not in known:
                raise UserError(
                    f"task {task.id} has the parameter {name!r}; for {definition.env_id} the engine knows "
                    f"{', '.join(known)}.{did_you_mean(name, known)}"
                )
            expected = _expected(name, value)
            if expected:
                raise UserError(f"task {task.id} has {name} = {value}; {expected} is needed.")
            columns[name][row] = value
        if np.isnan(parameters.goals[row]).sum() == 1:
            raise UserError(f"task {task.id} has one of {' and '.join(GOAL)}, but a goal needs both.")
    return parameters


def _has_goal(definition: Definition) -> bool:
    """Whether the task has a goal whose position can be set; in a task with buttons, one of these is the goal."""
    return definition.group("goal") is not None and definition.group("buttons") is None


def _expected(name: str, value: float) -> str | None:
    """A description of the allowed values; None if `value` is allowed."""
    if name in FACTORS:
        in_range = _LEAST_FACTOR <= value <= _MOST_FACTOR
        return None if in_range else f"a factor from {_LEAST_FACTOR} to {_MOST_FACTOR} (1 leaves the agent as it is)"
    if name in GOAL:
        return None if np.isfinite(value) else "a finite coordinate, m,"
    return None if np.isfinite(value) and value >= 0 else "a finite weight, at least 0,"
