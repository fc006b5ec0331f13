"""Writes checkpoints/best.ckpt in the run folder."""

import math
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cmaml_callbacks._checks import iteration_of
from cmaml_pl.files import in_one_move

MONITORED = "val/post/penalised_return"
"""The return of the adapted policies on validation tasks, less what their cost is over the limit, as in sweeps."""


class BestCheckpoint(Checkpoint):
    """Keeps a copy of the last checkpoint where its validation had the largest MONITORED so far.

    It comes after the callback that writes the last checkpoint, which holds this one's state. A run that was killed
    between the two makes the copy when it goes on.

    Lightning's ModelCheckpoint would forget the score in a run folder that was moved, and would warn of a metric that
    is not there before the first validation.

    Args:
        last: the file of the last checkpoint.
        path: the copy.

    Attributes:
        score: MONITORED of the copy; None while there is none.
        iteration: the meta-iteration after which it was made; 0 while there is none.
    """

    def __init__(self, last: Path, path: Path) -> None:
        self.score: float | None = None
        self.iteration = 0
        self._last, self._path = last, path
        self._dropped = self._is_best = False  # of this meta-iteration

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed goes on from."""
        return {"score": self.score, "iteration": self.iteration}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart of `state_dict`."""
        self.score, self.iteration = state_dict["score"], state_dict["iteration"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the checkpoint that the run goes on from, if it is the best."""
        if trainer.ckpt_path and self.iteration == trainer.current_epoch:
            self._keep(Path(trainer.ckpt_path), trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember whether the meta-iteration was dropped."""
        self._dropped = iteration_of(outputs).dropped

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the validation with all before it."""
        score = float(trainer.callback_metrics[MONITORED])
        if not self._dropped and score > (-math.inf if self.score is None else self.score):  # false where it is NaN
            self.score, self.iteration, self._is_best = score, trainer.current_epoch + 1, True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the last checkpoint, if it is the best."""
        if self._is_best:
            self._keep(self._last, trainer)
        self._is_best = False

    def _keep(self, checkpoint: Path, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            with in_one_move(self._path) as scratch:
                shutil.copyfile(checkpoint, scratch)
