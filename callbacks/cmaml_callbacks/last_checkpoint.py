"""checkpoints/last.ckpt in the run folder."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from cmaml_callbacks._checks import require_cmaml


class LastCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but for meta-iterations that were dropped: the newest file is from a good one.

    A run that goes on from it repeats what was dropped, so that nothing is lost once the cause is mended.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save."""
        if require_cmaml(self, pl_module).pre is not None:
            super().on_train_epoch_end(trainer, pl_module)
