"""Trains until the second process is killed: python -m tests.distributed.dying_rank HOOK key=value ...

It is killed at the third call of a hook of the module, so that the others meet its loss in the message that follows.
"""

import os
import signal
import sys
from itertools import count
from typing import Any

from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.cli import main


def train_until_killed(hook: str, overrides: list[str]) -> None:
    """Run the verb train."""
    run, calls = getattr(CMAML, hook), count(1)

    def die(self: CMAML, *args: Any) -> None:
        if next(calls) == 3 and self.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        run(self, *args)

    setattr(CMAML, hook, die)
    main(["train", *overrides])


if __name__ == "__main__":
    train_until_killed(sys.argv[1], sys.argv[2:])
