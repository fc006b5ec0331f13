"""learning_curves.png in the run folder."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.figures.learning_curves import plot_learning_curves


class LearningCurves(Callback):
    """Draw return and cost, before and after adaptation, when the run ends or is stopped, from its metrics.csv.

    Args:
        metrics: the metrics.csv.
        path: of the picture.
        cost_limit: drawn as a line, undiscounted cost per episode.
    """

    def __init__(self, metrics: Path, path: Path, *, cost_limit: float) -> None:
        self.metrics, self.path, self.cost_limit = metrics, path, cost_limit

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self.draw(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Draw what there is."""
        self.draw(trainer)

    def draw(self, trainer: Trainer) -> None:
        """Write the picture, once, if there is anything to show."""
        if trainer.is_global_zero and self.metrics.exists():
            plot_learning_curves(read_metrics(self.metrics), self.path, cost_limit=self.cost_limit)
