"""Starts modules in forks of a process that has imported what they import: 0.1 s each in place of 6.

A request comes with the files that are to be standard output and the status; the answers, on the latter, are the pid,
once the fork is there, and its return code, as `subprocess` has it. Only tests.commands talks to this, and a command
that starts further ranks, to a server of its own.
"""

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NUMBER = struct.Struct("q")


class Fork:
    """As much of a subprocess.Popen as is needed, of a process that the fork server has started."""

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        output: int,
        server: socket.socket,
        pictures: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self._status, theirs = os.pipe()
        request = json.dumps({"command": command, "cwd": str(cwd), "env": dict(env), "pictures": pictures})
        socket.send_fds(server, [request.encode()], [output, theirs])
        os.close(theirs)
        (self.pid,) = NUMBER.unpack(os.read(self._status, NUMBER.size))

    def wait(self, timeout: float | None = None) -> int:
        """Its return code when it has ended; subprocess.TimeoutExpired where that takes longer."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout or 0)
            (self.returncode,) = NUMBER.unpack(os.read(self._status, NUMBER.size))
            os.close(self._status)
        return int(self.returncode)

    def poll(self) -> int | None:
        """Its return code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end is closed; returns in the forks, with nothing left to do."""
    import cmaml_pl.cli
    import cmaml_pl.export  # noqa: F401  (with the one above all that the verbs need)
    from cmaml_pl.tracking.wandb_logger import preload_wandb

    preload_wandb()
    gc.freeze()  # or every fork would look at all that was imported, and so copy it
    while True:
        request, files, *_ = socket.recv_fds(connection, 2**20, 2)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            attend(json.loads(request), *files)
            return
        for file in files:
            os.close(file)
        while os.waitpid(-1, os.WNOHANG)[0]:  # whoever has attended to one that has ended, the youngest is still there
            pass


def attend(request: dict[str, Any], output: int, status: int) -> None:
    """Run the module in a process of its own, and tell how it ends."""
    pid = os.fork()
    if pid:
        os.write(status, NUMBER.pack(pid))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # a first rank may end without waiting for the other
            os.write(status, NUMBER.pack(code))
        os._exit(0)
    os.close(status)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.chdir(request["cwd"])
    sys.path.insert(0, request["cwd"])  # as `python -m` does
    os.environ.clear()
    os.environ.update(request["env"])
    if not request["pictures"]:
        from cmaml_callbacks import LearningCurves

        LearningCurves.draw = lambda *_: None  # type: ignore[method-assign]
    module, *sys.argv[1:] = request["command"]
    if "trainer.devices=2" in sys.argv and fork_further_ranks():
        return
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def fork_further_ranks() -> bool:
    """Have Lightning's launcher fork the other rank, too; True in that rank, when it has nothing left to do."""
    from lightning.pytorch.strategies.launchers import subprocess_script

    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        serve(theirs)
        return True
    theirs.close()

    def fork(command: list[str], *, env: Mapping[str, str], cwd: str | None) -> Fork:
        return Fork(command[2:], cwd=Path(cwd or "."), env=env, output=1, server=ours)

    vars(subprocess_script)["subprocess"] = SimpleNamespace(Popen=fork)
    return False


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
