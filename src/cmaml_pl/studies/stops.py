"""Signals that stop a study, and the one that also puts its SLURM job in the queue again."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from cmaml_pl.distributed.slurm import find_requeue_signal

REQUEUED_BY_STUDY = "CMAML_REQUEUED_BY_STUDY"
"""Environment variable of a study's trainings: the study requeues their SLURM job, once, after all have saved."""


class StopRequest(BaseException):
    """A signal has stopped the study; as with KeyboardInterrupt, no `except Exception` may keep it."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextmanager
def handling(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Within the block, these signals have this handler."""
    before: dict[signal.Signals, Callable[..., object] | int | None] = {
        number: signal.signal(number, handler) for number in numbers
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stopping_at_requeue_signal() -> Iterator[None]:
    """Within the block, SLURM's signal raises a StopRequest, once; without a handler it would kill this process."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise StopRequest(signal.Signals(number))

    requeue = find_requeue_signal()
    with handling([requeue] if requeue else [], stop):
        yield
