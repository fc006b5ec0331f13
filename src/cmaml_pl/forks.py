"""Processes that begin at once: forks of this one, which has imported what they would need seconds to import."""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path

import torch

CAN_FORK = sys.platform == "linux"
"""Whether processes are forked here: macOS's own libraries do not survive it."""

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: which signal a process gets when the one that started it dies."""


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """In a child on Linux: be sent this signal when the parent dies, however that is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


class Fork(ForkProcess):
    """A fork that does some work, with as much of a `subprocess.Popen` as is needed.

    It is told nothing by a terminal, is stopped when this process dies, and computes with one thread: the threads of
    OpenMP that this process may have begun are not there in a fork.

    Args:
        work: what it does; it ends as a Python that does nothing else.
        log: the file to which all is added that it prints.
        stop: the signal that it is sent when this process dies.
    """

    def __init__(self, work: Callable[[], object], log: Path, *, stop: int = signal.SIGTERM) -> None:
        super().__init__()
        self._work, self._log, self._stop = work, log, stop

    def start(self) -> None:
        """Begin, once. Where a handler of this process raises an exception meanwhile, the fork is there and known."""
        # a signal that comes before the fork has handlers of its own waits, or this process's handler would take it
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def run(self) -> None:
        """In the fork: do the work."""
        atexit._clear()  # what it has inherited is its parent's to tidy up: W&B's folder of pictures, for one
        os.setsid()
        die_with_parent(self._stop)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        with self._log.open("ab") as output:
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
        sys.stdout, sys.stderr = (open(file, "w", buffering=1, closefd=False) for file in (1, 2))  # noqa: SIM115
        torch.set_num_threads(1)
        try:
            self._work()
        finally:
            atexit._run_exitfuncs()  # multiprocessing leaves them out, and W&B ends its run in one

    def poll(self) -> int | None:
        """Its return code, minus the signal's number if one has killed it; None while it runs."""
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Unless it has ended, or not begun."""
        if self.exitcode is None and self.pid is not None:
            os.kill(self.pid, number)
