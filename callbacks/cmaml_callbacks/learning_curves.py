"""Draws learning_curves.png in the run folder."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.figures.learning_curves import plot_learning_curves


class LearningCurves(Callback):
    """Draws return, cost and multipliers from the run's metrics.csv when the run ends or is stopped.

    Args:
        metrics: the metrics.csv.
        path: the PNG to write.
        cost_limit: cost per episode, drawn as a line.
    """

    def __init__(self, metrics: Path, path: Path, *, cost_limit: float) -> None:
        self.metrics, self.path, self.cost_limit = metrics, path, cost_limit

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the learning curves."""
        self.draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw the learning curves up to the exception."""
        self.draw(trainer)

    def draw(self, trainer: Trainer) -> None:
        """Write the picture, if there are metrics; only the first rank does it."""
        if trainer.is_global_zero and self.metrics.exists():
            plot_learning_curves(read_metrics(self.metrics), self.path, cost_limit=self.cost_limit)
