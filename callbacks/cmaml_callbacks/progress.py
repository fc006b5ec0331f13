"""Shows the progress of meta-training on the terminal."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN_METRICS = {
    "return": "{post/return:.2f}",
    "cost": "{pre/cost:.1f} -> {post/cost:.1f}",
    "eta": "{eta:.2f}",
    "steps/s": "{throughput/env_steps_per_s:,.0f}",
}
"""Label -> format of the metrics beside the bar: return after adaptation, cost before and after adaptation, eta, and
environment steps per second."""


class MetaProgress(ProgressBar):
    """Shows one Rich bar for all meta-iterations; without a terminal it prints a plain line from time to time.

    Args:
        console: the console to print to; None for a new one.
        lines: about how many lines a whole run prints without a terminal.
    """

    def __init__(self, console: Console | None = None, *, lines: int = 20) -> None:
        super().__init__()
        self._console = console or Console()
        self._lines = lines
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this on every rank but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        if not (self._enabled and self._console.is_terminal):
            return
        columns = (
            TextColumn("meta-training"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
        )
        self._progress = Progress(*columns, console=self._console)
        self._task = self._progress.add_task("", total=trainer.max_epochs, completed=trainer.current_epoch, metrics="")
        self._progress.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the bar on by one meta-iteration, or print a line."""
        done, total = trainer.current_epoch + 1, trainer.max_epochs or 0
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, metrics=describe(trainer.callback_metrics))
        elif self._enabled and (done % max(1, total // self._lines) == 0 or done == total):
            self._console.print(f"{done}/{total}  {describe(trainer.callback_metrics)}", highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar; it stays visible."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the bar, so that the terminal works normally again."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def describe(metrics: Any) -> str:
    """A line with those metrics of SHOWN_METRICS that were logged."""
    parts = []
    for label, form in SHOWN_METRICS.items():
        try:
            parts.append(f"{label} {form.format_map({name: float(value) for name, value in metrics.items()})}")
        except KeyError:
            continue
    return "  ".join(parts)
