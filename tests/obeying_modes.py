"""The command by a user whom the modes of files stop, root as well: python -m tests.obeying_modes VERB key=value ...

Root keeps its name, so that it still reads what is root's own alone: a clone in /root, say.
"""

import ctypes
import os
import struct
import sys

from cmaml_pl.cli import main

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
VERSION = 0x20080522


def obey_modes() -> None:
    """Give up the rights to pass over the modes of files, in this process, where it has them; see capabilities(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    this, sets = struct.pack("Ii", VERSION, 0), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    if libc.capget(this, sets):
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    if libc.capset(this, sets):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    if os.geteuid() == 0:
        obey_modes()
    main(sys.argv[1:])
