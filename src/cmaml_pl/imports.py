"""Imports what users name by an import path, MODULE:NAME."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cmaml_pl.errors import UserError


def find_here() -> None:
    """Let modules be found in the current folder as well, after all other places."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def import_object(key: str, path: str) -> Any:
    """What the configuration's `key` names by MODULE:NAME.

    Raises:
        UserError: it cannot be imported.
    """
    module, _, name = path.partition(":")
    find_here()
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key} is {path!r}, which cannot be imported: {error}. Write MODULE:NAME.") from None
