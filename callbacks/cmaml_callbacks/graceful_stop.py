"""A stop on request, after the running meta-iteration."""

import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_pl.distributed.slurm import find_requeue_signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What schedulers, sweep agents and Ctrl-C send."""


class GracefulStop(Callback):
    """End the fit after the running meta-iteration, with its checkpoint, when SIGTERM or SIGINT asks for it.

    So does SLURM's signal that the time of a job is nearly over, where Lightning's SLURMEnvironment is to requeue the
    job. A second SIGINT interrupts at once. Lightning's own answer to SIGTERM is an exit in mid-iteration, and to
    SLURM's signal a checkpoint in mid-iteration.

    Attributes:
        received: the signal that ended the fit; None as long as there was none.
        requeue_signal: SLURM's; None where no job is to be requeued.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.requeue_signal: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to SLURM before Lightning begins to, which leaves a signal to the one who listens already."""
        self.requeue_signal = find_requeue_signal()
        self._listen([self.requeue_signal] if self.requeue_signal else [])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen in Lightning's place, which has begun to by now."""
        self._listen(SIGNALS)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where the meta-iteration is whole: told earlier, Lightning may end one that it has not begun."""
        # one rank's is everyone's: a launcher may send it to one process alone
        received = int(trainer.strategy.reduce(torch.tensor(self.received or 0), reduce_op="max"))
        if received:
            self.received, trainer.should_stop = signal.Signals(received), True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the signals as they were."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _listen(self, numbers: Iterable[signal.Signals]) -> None:
        """Python lets the main thread alone do so."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.received = self.received or signal.Signals(number)  # SLURM's is followed by SIGTERM
            signal.signal(signal.SIGINT, signal.default_int_handler)

        if threading.current_thread() is threading.main_thread():
            self._before |= {number: signal.signal(number, stop) for number in numbers}
