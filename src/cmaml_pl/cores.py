"""How many cores there are for this process."""

import os

from .errors import UserError


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_jobs(asked: object) -> int:
    """How many processes are to run at once: as many as are asked for, or None for one on each core.

    Raises:
        UserError: `asked` is no whole number above 0.
    """
    if asked is None:
        return usable_cores()
    if type(asked) is not int or asked < 1:
        raise UserError(f"jobs is {asked!r}, but must be a whole number, at least 1.")
    return asked
