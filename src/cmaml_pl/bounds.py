"""Allowed ranges of configuration values: declared together with the default, checked in one place."""

import dataclasses
import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from .errors import UserError, did_you_mean


def bounded(
    default: Any,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    finite: bool = True,
) -> Any:
    """A dataclass field with a default and an allowed range, which `check_bounds` checks.

    Args:
        default: the default value. For a list, every number in it is checked.
        low: smallest allowed value.
        above: value that must be exceeded.
        high: largest allowed value.
        choices: the allowed values, for a field with a string.
        finite: whether infinity is refused.
    """
    metadata = {"low": low, "above": above, "high": high, "choices": choices, "finite": finite}
    if isinstance(default, list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_bounds(settings: Any, prefix: str = "") -> None:
    """Raise a UserError that names the first key of a (nested) dataclass that is out of range."""
    for field in dataclasses.fields(settings):
        key, value = f"{prefix}{field.name}", getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_bounds(value, f"{key}.")
        elif value is not None:
            expected = _violated(value, field.metadata)
            if expected:
                raise UserError(f"{key} is {value!r}, but must be {expected}.")


def _violated(value: Any, limits: Any) -> str | None:
    choices = limits.get("choices")
    if choices:
        return None if value in choices else f"one of {', '.join(choices)}"
    for number in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        if math.isnan(number):
            return "a number"
        if math.isinf(number) and limits.get("finite", True):
            return "finite"
        if limits.get("low") is not None and number < limits["low"]:
            return f"at least {limits['low']}"
        if limits.get("above") is not None and number <= limits["above"]:
            return f"greater than {limits['above']}"
        if limits.get("high") is not None and number > limits["high"]:
            return f"at most {limits['high']}"
    return None


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise a UserError that names an argument and its `choices` if its value is none of them."""
    if value not in choices:
        raise UserError(f"{name} is {value!r}; choose from {', '.join(choices)}.{did_you_mean(value, choices)}")


def check_counts(**counts: Any) -> None:
    """Raise a UserError that names the first argument that is no whole number or less than 1; None is allowed."""
    for name, count in counts.items():
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise UserError(f"{name} is {count!r}; a whole number is needed.")
        if count < 1:
            raise UserError(f"{name} is {count}; at least 1 is needed.")
