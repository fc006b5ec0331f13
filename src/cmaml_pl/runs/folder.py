"""Run folders: the files of a run, and who may write to them."""

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
from cmaml_pl.runs.checkpoints import Checkpoint, load_checkpoint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "RunFolder":
        """The folder of the run that wrote a checkpoint."""
        return cls(checkpoint.path.resolve().parent.parent)

    @property
    def config(self) -> Path:
        """The whole configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One line a meta-iteration."""
        return self.path / "metrics.csv"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    def newest_good_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, None before the first; one that cannot is skipped with a warning.

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
        """Make the folder with its config.yaml, and `lock` it.

        Raises:
            UserError: it exists, though the run is not resumed, or another process has it.
        """
        if self.path.exists() and not config.run.resume:
            hint = f", or go on with it by run.resume={self.last_checkpoint}" if self.last_checkpoint.exists() else ""
            raise UserError(f"The run folder {self.path} exists and is not overwritten: choose another run.id{hint}.")
        self.path.mkdir(parents=True, exist_ok=True)
        with self.lock():
            store(replace(config, quiet=False), self.config)  # quiet is the call, not the run
            yield

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder; the system lets go of a lock whose process dies.

        Raises:
            UserError: another process has it.
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
        """The picture."""
        return self.path / "learning_curves.png"

    @property
    def export(self) -> Path:
        """The folder of the policy in other formats."""
        return self.path / "export"

    @property
    def measurements(self) -> Path:
        """The folder of what meta-tests have measured, kept for the next one."""
        return self.path / "measurements"
