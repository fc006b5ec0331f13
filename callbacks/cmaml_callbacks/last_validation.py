"""Validates after the last meta-iteration."""

from lightning.pytorch import Callback, LightningModule, Trainer


class LastValidation(Callback):
    """Lets the Trainer validate after the last meta-iteration as well, which need not be a multiple of its interval."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the interval."""
        self._interval = trainer.check_val_every_n_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the interval of this meta-iteration."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if last else self._interval
