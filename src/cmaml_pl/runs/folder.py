"""Run folders: the paths of the files of a run, and the lock that lets only one process write them."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cmaml_pl.configuration.loading import store
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError
from cmaml_pl.runs.checkpoint_io import previous
from cmaml_pl.runs.checkpoints import BEST, LAST, Checkpoint, load_checkpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The paths of the files of one run."""

    path: Path

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "RunFolder":
        """The folder of the run that wrote a checkpoint."""
        return cls(checkpoint.path.resolve().parent.parent)

    @property
    def config(self) -> Path:
        """The file with the whole configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """The file with the metrics, one line per meta-iteration."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / LAST

    @property
    def best_checkpoint(self) -> Path:
        """Of the checkpoints that were validated, the best one."""
        return self.checkpoints / BEST

    def newest_good_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that can be read; None if the run has no checkpoint yet.

        A checkpoint that cannot be read is skipped with a warning.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        found = [path for path in (self.last_checkpoint, previous(self.last_checkpoint)) if path.exists()]
        for path in found:
            try:
                return load_checkpoint(path)
            except UserError as error:
                logger.warning("%s It is skipped.", error)
        if found:
            raise UserError(f"No checkpoint in {self.checkpoints} can be read: remove the folder to begin anew.")
        return None

    @contextmanager
    def claim(self, config: Config) -> Iterator[None]:
        """Make the folder and its config.yaml, and hold its `lock` within the block.

        The folder of a run that ended before its first meta-iteration did is used again.

        Raises:
            UserError: the folder exists although the run is not resumed, or another process is training in it.
        """
        existed = self.path.exists()
        if existed and not config.run.resume:
            self._require_unused()
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            if existed and not config.run.resume:
                self._require_unused()  # again, for another process may have computed something until now
            store(replace(config, quiet=False), self.config)  # quiet belongs to one command, not to the run
            yield

    def _require_unused(self) -> None:
        """Raise a UserError unless the folder is a run's in which nothing was computed."""
        if self.config.is_file() and not self.metrics.exists() and not any(self.checkpoints.glob("*")):
            return
        hint = f", or go on with it by run.resume={self.last_checkpoint}" if self.last_checkpoint.exists() else ""
        raise UserError(f"The run folder {self.path} exists and is not overwritten: choose another run.id{hint}.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder within the block.

        If the process dies, the operating system releases the lock.

        Raises:
            UserError: another process holds the lock.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"Another process is training in {self.path}: stop it, or choose another run.id."
                ) from None
            yield

    @property
    def learning_curves(self) -> Path:
        """The picture of the learning curves."""
        return self.path / "learning_curves.png"

    @property
    def export(self) -> Path:
        """The folder of the exported policy."""
        return self.path / "export"

    @property
    def measurements(self) -> Path:
        """The folder of the measurements of meta-tests, which are kept and used again."""
        return self.path / "measurements"
