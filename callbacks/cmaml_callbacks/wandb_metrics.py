"""Gives W&B (Weights & Biases) more than the metrics: their axes, a summary, and the picture of the learning curves."""

from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from cmaml_pl.tracking.wandb_logger import find_wandb_logger


class WandbMetrics(Callback):
    """Sets the axes of the W&B run, uploads a picture at the end, and keeps the run's id in the checkpoint.

    The axis of the metrics is the number of environment steps, so that runs with different batch sizes can be compared.
    The run's summary has the best and the last validation return, and the lowest and the last validation cost.

    Args:
        picture: file of the learning curves, uploaded at the end.
    """

    def __init__(self, picture: Path) -> None:
        self.picture = picture
        self._run_id: str | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Define the axes and the summary, and check that a resumed run continues its W&B run."""
        logger = find_wandb_logger(trainer)
        if logger is None:
            raise TypeError("WandbMetrics needs a WandbLogger among the Trainer's loggers")
        if self._run_id is not None and self._run_id != logger.version:
            rank_zero_warn(f"the checkpoint belongs to W&B run {self._run_id}, but metrics go to {logger.version}")
        self._run_id = str(logger.version)
        if trainer.is_global_zero:
            run = logger.experiment
            run.define_metric("throughput/env_steps")
            run.define_metric("*", step_metric="throughput/env_steps")
            for name, best in (("val/post/return", "max"), ("val/post/cost", "min")):
                run.define_metric(name, step_metric="throughput/env_steps", summary=f"{best},last")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Upload the picture."""
        logger = find_wandb_logger(trainer)
        if logger is not None and trainer.is_global_zero and self.picture.exists():
            logger.experiment.log({"learning_curves": wandb.Image(str(self.picture))})

    def state_dict(self) -> dict[str, Any]:
        """The id of the W&B run."""
        return {} if self._run_id is None else {"run_id": self._run_id}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the id of the W&B run that the checkpoint belongs to."""
        self._run_id = state_dict.get("run_id")
