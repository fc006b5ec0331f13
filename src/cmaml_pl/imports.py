"""Imports what users name by an import path, MODULE:NAME."""

import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from cmaml_pl.errors import UserError, did_you_mean


class MissingCodeError(UserError):
    """Code of the user's own is not found, or fails."""


def find_here() -> None:
    """Let modules be found in the current folder as well, after all other places."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


LIBRARIES = {"cmaml_pl", "gymnasium", "torchrl", "tensordict", "torch", "numpy", *sys.stdlib_module_names}
"""Modules whose lines are not where the user's code went wrong."""


def users_line(error: BaseException) -> tuple[str, int] | None:
    """The file and line of the user's code that an error comes from; None if it comes from the libraries alone."""
    lines = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").split(".")[0] not in LIBRARIES
    ]
    return lines[-1] if lines else None


def told(error: BaseException) -> str:
    """What went wrong in the user's code, and where."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    file, line = users_line(error) or (frames[-1] if frames else ("", 0))
    return f"{type(error).__name__}: {error}" + (f" ({Path(file).name}, line {line})" if file else "")


def module_file(path: str) -> Path | None:
    """The source file of the module in MODULE:NAME; None if `path` does not name a module that is found."""
    module, colon, _ = path.partition(":")
    find_here()
    try:
        found = find_spec(module) if colon and module else None
    except (ImportError, ValueError):  # a package that is missing, or a relative name
        return None
    return Path(found.origin) if found and found.has_location and found.origin else None


def import_object(key: str, path: str) -> Any:
    """What the configuration's `key` names by MODULE:NAME.

    Raises:
        MissingCodeError: it cannot be imported.
    """
    module, _, name = path.partition(":")
    find_here()
    try:
        return getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (the user's module may raise anything, and may be a script)
        raise MissingCodeError(
            f"{key} is {path!r}, which cannot be imported: {told(error)}. Write MODULE:NAME, and run it where the "
            "module is."
        ) from None


def import_maker(key: str, path: str, kind: type[Any]) -> Callable[..., Any]:
    """What MODULE:NAME names: a class that inherits from `kind`, or a function that is annotated to give such a one.

    A run folder may come from a stranger, and may name whatever is installed, with any arguments. What does not say
    that it makes a `kind` is therefore not called.

    Raises:
        MissingCodeError: it cannot be imported, or says that it gives something else.
    """
    found = import_object(key, path)
    try:
        made = found if isinstance(found, type) else get_type_hints(found).get("return")
    except Exception:  # noqa: BLE001  (an annotation of the user's may name what is not there)
        made = None
    if not (isinstance(made, type) and issubclass(made, kind)):
        name = kind.__name__
        raise MissingCodeError(
            f"{key} is {path!r}, but must be a class that inherits from {kind.__module__}.{name}, or a function whose "
            f"return annotation is such a class: def {path.partition(':')[2] or 'make'}(...) -> {name}."
        )
    maker: Callable[..., Any] = found
    return maker


CLASS = "class"
"""The key that names the class of a part; it cannot be an argument of its constructor."""


def make_parts(key: str, parts: Any, kind: type[Any], **offered: Any) -> list[Any]:
    """The objects that a list in the configuration describes; of null there are none.

    Args:
        key: the configuration's key of the list.
        parts: of each object MODULE:CLASS, or a mapping with `class`, which is that, and the constructor's arguments.
        kind: what the objects must be.
        offered: arguments that a constructor gets if it takes them and the mapping does not give them.

    Raises:
        UserError: an object cannot be imported or made, or is of another kind.
    """
    if not isinstance(parts, list | None):
        raise UserError(f"{key} is {parts!r}, but must be a list: {key}=[MODULE:CLASS].")
    return [_make_part(key, part, kind, offered) for part in parts or ()]


def _make_part(key: str, part: Any, kind: type[Any], offered: Mapping[str, Any]) -> Any:
    given = {CLASS: part} if isinstance(part, str) else part
    path = given.get(CLASS) if isinstance(given, Mapping) else None
    if not isinstance(path, str) or ":" not in path:
        raise UserError(f"{key} has {part!r}, but must have MODULE:CLASS, or {{class: MODULE:CLASS, ARGUMENT: VALUE}}.")
    found = import_object(key, path)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise UserError(
            f"{key} has {path!r}, but must have classes that inherit from {kind.__module__}.{kind.__name__}."
        )
    arguments = {str(name): value for name, value in given.items() if name != CLASS}
    known = signature(found).parameters
    try:
        return found(**{name: value for name, value in offered.items() if name in known} | arguments)
    except Exception as error:  # noqa: BLE001  (the user's class may raise anything)
        hints = [hint for name in arguments if name not in known and (hint := did_you_mean(name, known))]
        raise UserError(f"{key} has {path!r}, which cannot be made: {told(error)}.{''.join(hints)}") from None
