"""The one exception that is the user's to mend, and the hint that most of them end with."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message names the key or file, says what was expected and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A sentence, led by a blank, that suggests the nearest of `known`; empty where none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {prefix}{close[0]}?" if close else ""
