"""Runs a contender of engine_speed.py in a process of its own."""

import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection
from typing import Self

import torch
from benchmarks.contenders import Contender

from cmaml_pl.errors import UserError


class Running:
    """A contender in a process of its own, which sleeps while nothing is measured. Use it in a `with` statement.

    Args:
        build: makes the contender; it is called in the new process.
    """

    def __init__(self, build: Callable[[], Contender]) -> None:
        context = get_context("forkserver")  # the fork server has already imported the heavy packages
        context.set_forkserver_preload(["torchrl.collectors", "cmaml_pl.envs.navigation", "cmaml_pl.envs.locomotion"])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build))
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def wait(self) -> int:
        """Wait until the contender is built, and return the number of its worlds."""
        return int(self._answer())

    def measure(self) -> float:
        """One more measurement of the contender, see Contender.measure."""
        self._pipe.send("measure")
        return self._answer()

    def _answer(self) -> float:
        try:
            answer: float | Exception = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"a contender's process ended, exit code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, build: Callable[[], Contender]) -> None:
    """Build a contender, send its number of worlds, and then send a measurement for each request.

    An error is sent instead of a measurement, and the process ends after it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one ends the others
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    # fork was Linux's default up to Python 3.13; Safety-Gymnasium's workers need it, they cannot be imported anew
    set_start_method("fork", force=True)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        contender = build()
        try:
            pipe.send(contender.worlds)
            while pipe.recv():
                pipe.send(contender.measure())
        finally:
            contender.close()
    except (EOFError, BrokenPipeError):
        pass  # nobody asks any more
    except UserError as error:
        pipe.send(error)
    except Exception:  # noqa: BLE001  (the first process raises it, whatever it is)
        pipe.send(RuntimeError(traceback.format_exc()))
