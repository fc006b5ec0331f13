"""Ranges that tasks are drawn from, and drawing from outside a range."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cmaml_pl.errors import UserError

TEST_RANGES = ("inside", "outside")
"""Test tasks are drawn from the range of the training tasks, or from a wider range without that of the training
tasks."""


def draw(rng: np.random.Generator, inside: Sequence[float], outside: Sequence[float] | None = None) -> float:
    """A number drawn uniformly from `inside`, [low, high]; if `outside` is given, from `outside` without `inside`."""
    if outside is None:
        return float(rng.uniform(inside[0], inside[1]))
    below, above = inside[0] - outside[0], outside[1] - inside[1]
    along = rng.uniform(0.0, below + above)  # the two parts laid end to end
    return float(outside[0] + along if along < below else inside[1] + along - below)


def check_range(key: str, values: Any) -> None:
    """Raise a UserError unless the value of tasks.`key` is a range, [low, high]."""
    numbers = isinstance(values, Sequence) and all(isinstance(x, int | float) and math.isfinite(x) for x in values)
    if not numbers or len(values) != 2 or not values[0] <= values[1]:
        raise UserError(f"tasks.{key} is {values}, but must be [low, high].")


def check_wider(key: str, inside: Sequence[float], outside: Sequence[float]) -> None:
    """Raise a UserError unless tasks.outside_`key` is a wider range that contains tasks.`key`."""
    check_range(f"outside_{key}", outside)
    wider = outside[0] <= inside[0] and inside[1] <= outside[1] and list(inside) != list(outside)
    if not wider:
        raise UserError(
            f"tasks.outside_{key} is {list(outside)}, but must contain tasks.{key}, {list(inside)}, and be wider."
        )
