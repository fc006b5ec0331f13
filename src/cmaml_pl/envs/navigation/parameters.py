"""What tells the worlds of one task from another's beside the layout: `Task.parameters` as arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cmaml_pl.envs.navigation.definition import Definition
from cmaml_pl.envs.navigation.physics import Array
from cmaml_pl.envs.navigation.rules import own_weights
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.task import Task

FACTORS = ("mass", "damping", "gear")
"""Factors of the agent's masses and inertias, joint damping and actuator gears."""
GOAL = ("goal_x", "goal_y")
"""Where the goal stays, m."""
COST_PREFIX = "cost_"
"""Before the name of a group: the weight of its cost."""
_LEAST_FACTOR, _MOST_FACTOR = 0.05, 20.0  # beyond, the models' time steps are too coarse or nothing moves


@dataclass(frozen=True)
class Parameters:
    """The parameters of n tasks, or of n worlds.

    Attributes:
        factors: in the order of FACTORS, (n, 3).
        goals: where goals stay, (n, 2), m; NaN where Safety-Gymnasium draws them.
        weights: of the groups that can cost, in the order of `Definition.costly`, (n, groups).
    """

    factors: Array
    goals: Array
    weights: Array


def own_parameters(definition: Definition, num_worlds: int) -> Parameters:
    """Worlds as Safety-Gymnasium makes them."""
    return Parameters(
        factors=np.ones((num_worlds, len(FACTORS))),
        goals=np.full((num_worlds, len(GOAL)), np.nan),
        weights=np.tile(own_weights(definition), (num_worlds, 1)),
    )


def read_parameters(definition: Definition, tasks: Sequence[Task]) -> Parameters:
    """The tasks' parameters; what a task does not give stays Safety-Gymnasium's own.

    Raises:
        UserError: names a parameter that the engine does not know, that the task's id has no use for, or that is out of
            range.
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
    """Whether there is a goal that can be put elsewhere: where buttons are, the goal is one of them."""
    return definition.group("goal") is not None and definition.group("buttons") is None


def _expected(name: str, value: float) -> str | None:
    """What a value should have been; None where it is right."""
    if name in FACTORS:
        in_range = _LEAST_FACTOR <= value <= _MOST_FACTOR
        return None if in_range else f"a factor from {_LEAST_FACTOR} to {_MOST_FACTOR} (1 leaves the agent as it is)"
    if name in GOAL:
        return None if np.isfinite(value) else "a finite coordinate, m,"
    return None if np.isfinite(value) and value >= 0 else "a finite weight, at least 0,"
