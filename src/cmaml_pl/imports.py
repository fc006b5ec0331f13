"""Imports what users name by an import path, MODULE:NAME."""

import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from cmaml_pl.errors import UserError


class MissingCodeError(UserError):
    """Code of the user's own is not found, or fails."""


def find_here() -> None:
    """Let modules be found in the current folder as well, after all other places."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def told(error: Exception) -> str:
    """What went wrong in the user's code, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def import_object(key: str, path: str) -> Any:
    """What the configuration's `key` names by MODULE:NAME.

    Raises:
        MissingCodeError: it cannot be imported.
    """
    module, _, name = path.partition(":")
    find_here()
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # noqa: BLE001  (the user's module may raise anything)
        raise MissingCodeError(
            f"{key} is {path!r}, which cannot be imported: {told(error)}. Write MODULE:NAME, and run it where the "
            "module is."
        ) from None
