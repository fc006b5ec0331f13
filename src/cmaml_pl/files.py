"""Replaces files safely, even if the run is killed or the disk is full during the write."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_move(path: Path, scratch: str = ".tmp") -> Iterator[Path]:
    """Give a scratch file to write to; it replaces `path` when the block ends.

    The scratch file is in the folder of `path` and has the suffix `scratch`. `path` therefore always holds either the
    whole old content or the whole new content: neither a reader nor a crash ever finds half of a file.
    """
    beside = path.with_suffix(scratch)
    try:
        yield beside
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
