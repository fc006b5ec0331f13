"""checkpoints/last.ckpt in the run folder."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cmaml_callbacks._checks import iteration_of


class LastCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but for meta-iterations that were dropped: the newest file is from a good one.

    A run that goes on from it repeats what was dropped, so that nothing is lost once the cause is mended.
    """

    _dropped = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember whether the meta-iteration was dropped."""
        self._dropped = iteration_of(outputs).dropped
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        if not self._dropped:
            super().on_train_epoch_end(trainer, pl_module)
