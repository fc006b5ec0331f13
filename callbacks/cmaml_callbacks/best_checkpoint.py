"""Writes checkpoints/best.ckpt in the run folder."""

import math
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from cmaml_callbacks._checks import iteration_of

MONITORED = "val/post/penalised_return"
"""The return of the adapted policies on validation tasks, less what their cost is over the limit, as in sweeps."""


class BestCheckpoint(Checkpoint):
    """Keeps the checkpoint of the meta-iteration that was validated with the largest MONITORED.

    It is written before the last one, which knows its score: a run that is killed between the two writes it again.
    Lightning's ModelCheckpoint would forget the score in a run folder that was moved, and would warn of a metric that
    is not there before the first validation.

    Args:
        path: the file.

    Attributes:
        score: MONITORED of the checkpoint; None while there is none.
    """

    def __init__(self, path: Path) -> None:
        self.score: float | None = None
        self._path = path
        self._dropped = False
        self._validated: float | None = None  # MONITORED of this meta-iteration

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed goes on from."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The counterpart of `state_dict`."""
        self.score = state_dict["score"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember whether the meta-iteration was dropped."""
        self._dropped = iteration_of(outputs).dropped

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what the validation has found."""
        self._validated = float(trainer.callback_metrics[MONITORED])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoint if the meta-iteration was validated, and is better than all before it."""
        score, self._validated = self._validated, None
        if score is None or self._dropped:
            return
        if score > (-math.inf if self.score is None else self.score):  # false where it is NaN
            self.score = score
            trainer.save_checkpoint(self._path)
