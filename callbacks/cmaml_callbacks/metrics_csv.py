"""Writes metrics.csv, with one line per meta-iteration, also after a resume."""

import csv
import io
import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_pl.errors import UserError
from cmaml_pl.files import in_one_move

logger = logging.getLogger(__name__)


class MetricsCSV(Callback):
    """Writes every logged metric to `path`, one line per meta-iteration.

    Cells of validation metrics are empty in meta-iterations without a validation. Lightning's own CSVLogger deletes the
    file when a run is resumed. Here a resumed run keeps the lines up to its checkpoint and removes later ones, so that
    the file is the same as that of an uninterrupted run. This callback belongs after the callbacks that log.

    Args:
        path: the file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[dict[str, Any]] = []
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the lines of a resumed run up to its checkpoint; the checkpoint's epoch is known only now."""
        done = trainer.current_epoch
        if done == 0:
            return
        if self.path.exists():
            self._lines = [line for line in read_metrics(self.path) if line["iteration"] <= done]
        if len(self._lines) < done:
            logger.warning("%s has lost %d of %d lines; the run goes on.", self.path, done - len(self._lines), done)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that this meta-iteration has validation metrics."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the line of this meta-iteration, and write the file on the first rank."""
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if self._validated or not name.startswith("val/")
        }
        self._validated = False
        self._lines.append({"iteration": trainer.current_epoch + 1, **metrics})
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Replace the file with all lines, in one move."""
        names = dict.fromkeys(name for line in self._lines for name in line)
        with in_one_move(self.path) as scratch, scratch.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows({**line, "iteration": int(line["iteration"])} for line in self._lines)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.csv, each as name -> value; empty cells and a cut-off last line are left out.

    Raises:
        UserError: the file is not a metrics.csv.
    """
    try:
        text = path.read_text()
        whole = io.StringIO(text[: text.rfind("\n") + 1])
        lines = [{name: float(cell) for name, cell in line.items() if cell != ""} for line in csv.DictReader(whole)]
    except (ValueError, TypeError) as error:  # not text, not a number, or a line with another number of cells
        raise UserError(f"{path} is not a metrics.csv ({error}): move it away to go on without its lines.") from None
    if not all("iteration" in line for line in lines):
        raise UserError(f"{path} is not a metrics.csv (no iteration): move it away to go on without its lines.")
    return lines
