"""Files that are replaced while a run may be killed or a disk be full."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_move(path: Path, scratch: str = ".tmp") -> Iterator[Path]:
    """A file to write to, beside `path`, with the suffix `scratch`; it replaces `path` at the block's end.

    A reader or a crash never meets half of it: what was there stays whole whatever happens.
    """
    beside = path.with_suffix(scratch)
    try:
        yield beside
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
