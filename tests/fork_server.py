"""Starts modules in forks of a process that has imported what they import: 0.1 s each in place of 6.

A request comes with the files that are to be standard output and the status; the answers, on the latter, are the pid,
once the fork is there, and its return code, as `subprocess` has it. Only tests.commands talks to this.
"""

import gc
import json
import os
import runpy
import socket
import struct
import sys
from typing import Any

NUMBER = struct.Struct("q")


def serve(connection: socket.socket) -> None:
    """Answer requests until the other end is closed; returns in the forks, with nothing left to do."""
    import cmaml_pl.cli
    import cmaml_pl.export  # noqa: F401  (with the one above all that the verbs need)

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
        os.write(status, NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        os._exit(0)
    os.close(status)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.chdir(request["cwd"])
    sys.path.insert(0, request["cwd"])  # as `python -m` does
    os.environ.clear()
    os.environ.update(request["env"])
    module, *sys.argv[1:] = request["command"]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
