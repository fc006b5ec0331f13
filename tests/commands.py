"""The real commands, `python -m cmaml_pl ...`, in processes of their own."""

import atexit
import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.fork_server import Fork

from cmaml_pl.cli import main

ROOT = Path(__file__).parents[1]
FORKS = sys.platform == "linux"
"""Whether commands are forked; macOS's own libraries do not survive that, so there they are started anew."""

LATE_THREAD = "Exception in thread wandb-ServiceFinalizer:"
"""With it begins what a thread of W&B says, or begins to say, when a process ends before it; nothing is lost by it."""


def without_late_threads(printed: str) -> str:
    """What was printed without LATE_THREAD and its traceback, among which another process may have logged a line."""
    kept, late = [], False
    for line in printed.splitlines(keepends=True):
        if line.startswith(LATE_THREAD):
            late = True
        elif late and line.startswith(("Traceback", " ", "w")):
            late = not line.startswith("w")  # the error, in the last line: wandb. ...
        else:
            late = late and line.startswith("20")  # a log's line, of that date
            kept.append(line)
    return "".join(kept)


def python_path() -> str:
    """PYTHONPATH by which another process, in any folder, imports what this one can."""
    return os.pathsep.join([str(ROOT), *(str(Path(root).resolve()) for root in sys.path if root)])


@cache
def fork_server() -> socket.socket:
    """The connection to the server of this process, which ends with it."""
    ours, theirs = socket.socketpair()
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for pytest, which closes the connection
    )
    theirs.close()
    atexit.register(server.wait)
    atexit.register(ours.close)  # which comes first, and ends it
    return ours


class Command:
    """`python -m MODULE ARGUMENTS`, begun.

    Args:
        command: module and arguments.
        cwd: where it runs.
        env: variables of its environment, beside this process's.
        anew: start a Python of its own, though that takes seconds to import everything.
        pictures: whether one that is not started anew draws learning curves, which takes longer than a tiny training.
    """

    def __init__(
        self,
        *command: str,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        anew: bool = False,
        pictures: bool = False,
    ) -> None:
        # without the address of a W&B service that this process may have started, in another folder
        inherited = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        # PYTHONPATH is for what it starts in its turn, too
        variables = {**inherited, "PYTHONPATH": python_path(), "WANDB_SILENT": "true", **(env or {})}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (`started` closes it)
        self.process: Fork | subprocess.Popen[bytes]
        if FORKS and not anew:
            output = self._output.fileno()
            self.process = Fork(
                list(command), cwd=cwd, env=variables, output=output, server=fork_server(), pictures=pictures
            )
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def printed(self) -> str:
        """What it has printed, so far, on either stream."""
        file = self._output.fileno()
        text = os.pread(file, os.fstat(file).st_size, 0).decode()  # the place in the file is the command's
        return without_late_threads(text)

    def close(self) -> None:
        """Kill it where it runs, and forget what it has printed."""
        self.process.kill()
        self.process.wait()
        self._output.close()

    def end(self, timeout: float = 300) -> int:
        """Its return code when it has ended; it is not allowed to show a traceback."""
        code = self.process.wait(timeout)
        assert "Traceback" not in self.printed, self.printed
        return code


@contextlib.contextmanager
def started(*command: str, **how: Any) -> Iterator[Command]:
    """A Command that runs at most as long as the block; `how` are its other arguments, here and below."""
    begun = Command(*command, **how)
    try:
        yield begun
    finally:
        begun.close()


def run(*command: str, code: int = 0, **how: Any) -> str:
    """What a command prints that ends with that code."""
    with started(*command, **how) as begun:
        assert begun.end() == code, begun.printed
        return begun.printed


def cmaml(*arguments: str, **how: Any) -> str:
    """What `python -m cmaml_pl` prints; `how` is that of `run`."""
    return run("cmaml_pl", *arguments, **how)


def refused(*arguments: str, cwd: Path) -> str:
    """What main() says to these arguments, in this process, having ended with exit code 2."""
    stderr = io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stderr(stderr), pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    return stderr.getvalue()
