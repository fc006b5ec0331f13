"""A stop on request, after the running meta-iteration."""

import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What schedulers, sweep agents and Ctrl-C send."""


class GracefulStop(Callback):
    """End the fit after the running meta-iteration, with its checkpoint, when SIGTERM or SIGINT asks for it.

    A second SIGINT interrupts at once. Lightning's own answer to SIGTERM is an exit in mid-iteration.

    Attributes:
        received: the signal that ended the fit; None as long as there was none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in Lightning's place, which has begun to by now; Python lets the main thread alone do so."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.received = signal.Signals(number)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, stop) for number in SIGNALS}

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
