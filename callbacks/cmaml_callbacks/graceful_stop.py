"""Stops a run on request, after the meta-iteration that is running."""

import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_pl.distributed.slurm import find_requeue_signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals that schedulers, sweep agents and Ctrl-C send."""


class GracefulStop(Callback):
    """Ends the fit after the running meta-iteration and its checkpoint, when SIGTERM or SIGINT was received.

    SLURM's signal that the time of a job is nearly over does the same, if Lightning's SLURMEnvironment is set to
    requeue the job. A second SIGINT interrupts at once. Without this callback, Lightning would exit in the middle of a
    meta-iteration after SIGTERM, and write a checkpoint in the middle of one after SLURM's signal.

    Attributes:
        received: the signal that ended the fit; None if there was none.
        requeue_signal: SLURM's signal; None if no job is to be requeued.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.requeue_signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the handler of SLURM's signal before Lightning does; Lightning keeps a handler that is already set."""
        self.requeue_signal = find_requeue_signal()
        self._listen([self.requeue_signal] if self.requeue_signal else [])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the handlers of SIGNALS; Lightning has set its own ones by now, and they are replaced."""
        self._listen(SIGNALS)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell Lightning to stop, now that the meta-iteration is complete.

        If Lightning were told earlier, it could end a meta-iteration that has not begun.
        """
        # a launcher may send the signal to one process only, so the ranks share what they received
        received = int(trainer.strategy.reduce(torch.tensor(self.received or 0), reduce_op="max"))
        if received:
            self.received, trainer.should_stop = signal.Signals(received), True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers from before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _listen(self, numbers: Iterable[signal.Signals]) -> None:
        """Set the handler of the given signals; only in the main thread, since Python allows it nowhere else."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.received = self.received or signal.Signals(number)  # keep the first: SIGTERM follows SLURM's signal
            signal.signal(signal.SIGINT, signal.default_int_handler)

        if threading.current_thread() is threading.main_thread():
            self._before |= {number: signal.signal(number, stop) for number in numbers}
