"""The exception for mistakes that the user can correct, and the hint that most of its messages end with."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message names the key or file, and says what was expected and what to do.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A sentence that suggests the name in `known` most similar to `name`; empty if none is similar.

    The sentence begins with a space, so that it can be appended to a message. `prefix` is put before the suggestion.
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {prefix}{close[0]}?" if close else ""
