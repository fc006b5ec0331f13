"""Tells the faults of a user's own environment: which one, what it did, and where in the user's file."""

import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmaml_pl.errors import UserError
from cmaml_pl.imports import import_object, told, users_line


class Faults:
    """The faults of one environment, as errors to raise.

    Args:
        who: the key that names the environment, and its value.
        kind: class of the environment.
        needed: name of a method -> what it takes and gives.
    """

    def __init__(self, who: str, kind: type[Any], needed: dict[str, str]) -> None:
        self._who, self._kind, self._needed = who, kind, needed

    def raised(self, method: str, error: Exception) -> UserError:
        """A method has raised `error`, or what it gave has let others raise it."""
        if users_line(error):
            return UserError(f"{self._who}, whose {method} fails: {told(error)}.")
        return self.given(method, f"does not do {self._needed[method]}: {type(error).__name__}: {error}")

    def given(self, method: str, what: str) -> UserError:
        """A method has done what it should not."""
        code = getattr(getattr(self._kind, method, None), "__code__", None)
        where = f" ({Path(code.co_filename).name}, line {code.co_firstlineno})" if code else ""
        return UserError(f"{self._who}, whose {method}{where} {what}.")

    def vector(self, method: str, observation: Any, size: int) -> NDArray[np.float32]:
        """The observation that a method gave, (`size`,).

        Raises:
            UserError: it is something else.
        """
        try:
            found = np.asarray(observation, np.float32)
        except (TypeError, ValueError, RuntimeError):
            raise self.given(method, f"gives the observation {reprlib.repr(observation)}; numbers are needed") from None
        if found.shape != (size,):
            raise self.given(method, f"gives an observation of shape {found.shape}, but its space has {(size,)}")
        return found

    def number(self, method: str, name: str, value: Any) -> float:
        """The number that a method gave as `name`.

        Raises:
            UserError: it is none.
        """
        found = _number(value)
        if found is None:
            raise self.given(method, f"gives the {name} {reprlib.repr(value)}; a number is needed")
        return found


def cost_function(key: str, path: str) -> Callable[..., float]:
    """The user's function of a step that the configuration's `key` names by MODULE:FUNCTION; it gives a cost.

    Raises:
        UserError: it cannot be imported; and, when it is called, it fails or gives no number.
    """
    function = import_object(key, path)

    def cost(*step: Any) -> float:
        try:
            value = function(*step)
        except Exception as error:  # noqa: BLE001  (the user's function may raise anything)
            raise UserError(f"{key} is {path!r}, which fails: {told(error)}.") from None
        found = _number(value)
        if found is None:
            raise UserError(f"{key} is {path!r}, which gives {reprlib.repr(value)}; a number is needed.")
        return found

    return cost


def _number(value: Any) -> float | None:
    """A number, or an array or tensor of one, as a number; None for anything else."""
    if isinstance(value, str | bytes):
        return None
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError):
        return None
