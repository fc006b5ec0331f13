"""Writes checkpoints/last.ckpt in the run folder."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cmaml_callbacks._checks import iteration_of


class LastCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but it saves nothing after a meta-iteration that was dropped.

    The newest file is therefore always from a good meta-iteration. A run that is resumed from it repeats the dropped
    ones, so that nothing is lost once their cause is removed.
    """

    _dropped = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember whether the meta-iteration was dropped."""
        self._dropped = iteration_of(outputs).dropped
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the checkpoint, unless the meta-iteration was dropped."""
        if not self._dropped:
            super().on_train_epoch_end(trainer, pl_module)
