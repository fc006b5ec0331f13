"""Run folders: where a run lives, and how one is begun or taken up again."""

import fcntl
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmaml_pl import config as configuration
from cmaml_pl.checkpoint_io import previous
from cmaml_pl.config import Config
from cmaml_pl.errors import UserError

logger = logging.getLogger(__name__)

MAY_CHANGE = (
    *("quiet", "run.", "logger.", "trainer."),
    *("train.meta_iterations", "train.validate_every", "train.max_dropped"),
)
"""Keys in which a resumed run may differ from its checkpoint: none changes what an iteration computes."""

RUN_ID = "CMAML_RUN_ID"
"""The variable that tells the processes that Lightning starts what their run is called."""

TO_GO_ON = ("hyper_parameters", "optimizer_states", "loops", "callbacks", "pytorch-lightning_version")
"""What a checkpoint needs for training beyond parameters and epoch."""

AUTO = "auto"
"""The value of run.resume that begins a run or goes on with it, whichever it takes."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read: its file, and the tensors and plain values in it."""

    path: Path
    content: dict[str, Any]

    @property
    def iterations(self) -> int:
        """Meta-iterations behind it."""
        return int(self.content["epoch"]) + 1

    @property
    def folder(self) -> "RunFolder":
        """Of the run that wrote it."""
        return RunFolder(self.path.resolve().parent.parent)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

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
            configuration.save(replace(config, quiet=False), self.config)  # quiet is the call, not the run
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


def prepare_run(overrides: Sequence[str]) -> tuple[Config, RunFolder, Checkpoint | None]:
    """The configuration, the folder and, for a resumed run, the checkpoint that the overrides of `train` ask for.

    A new run gets a folder of its own; a resumed one goes on in the folder of its checkpoint, with the
    configuration that is stored there. With run.resume=auto the folder that run.id names is begun, or gone on with, or,
    where it has done all its meta-iterations, given back as it is.

    Under a W&B sweep agent it is the agent that names the run, which goes on where it has begun; see `agent_overrides`.
    """
    overrides = [*overrides, *agent_overrides(os.environ)]
    requested = configuration.parse_overrides(overrides)
    exp = configuration.requested(requested, "exp")
    resume = configuration.requested(requested, "run.resume")
    if resume and resume != AUTO:
        for key in ("run.id", "run.dir"):
            if configuration.requested(requested, key) is not None:
                raise UserError(f"{key} cannot be set with run.resume: a resumed run goes on in its own folder.")
        return _resumed_run(load_checkpoint(Path(str(resume))), exp, overrides)
    if not exp:
        raise UserError(f"exp is missing: exp=NAME, one of {', '.join(configuration.experiments())}.")
    config = configuration.load(str(exp), overrides)
    if resume and not config.run.id:
        raise UserError("run.resume=auto needs run.id: it goes on with that run where it has begun.")
    label = f"{config.arm}-s{config.seed}" if config.arm else f"s{config.seed}"
    new_id = f"{datetime.now():%Y%m%d-%H%M%S}-{label}-{secrets.token_hex(2)}"
    run_id = config.run.id or os.environ.get(RUN_ID) or new_id
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", run_id):
        raise UserError(f"run.id is {run_id!r}, but may hold letters, digits, '_', '-' and '.' only.")
    config = replace(config, run=replace(config.run, id=run_id))
    folder = RunFolder(Path(config.run.dir) / config.exp / run_id)
    newest = folder.newest_good_checkpoint() if resume else None
    if newest:
        return _resumed_run(newest, exp, overrides, may_be_done=True)
    return config, folder, None


def agent_overrides(environ: Mapping[str, str]) -> list[str]:
    """What a W&B sweep agent hands over in the environment, as overrides; none where there is no agent.

    The run folder gets the id of the W&B run, which is stored with entity and project: a run of a sweep that is resumed
    without the agent goes on in the same W&B run.
    """
    run_id = environ.get("WANDB_RUN_ID")
    if not (run_id and environ.get("WANDB_SWEEP_ID")):
        return []
    given = {
        "run.id": run_id,
        "run.resume": AUTO,
        "logger.id": run_id,
        "logger.entity": environ.get("WANDB_ENTITY"),
        "logger.project": environ.get("WANDB_PROJECT"),
    }
    # quoted: an id of digits alone stays a string
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value]


def _resumed_run(
    checkpoint: Checkpoint, exp: Any, overrides: Sequence[str], *, may_be_done: bool = False
) -> tuple[Config, RunFolder, Checkpoint]:
    path = checkpoint.path
    lacking = [key for key in TO_GO_ON if key not in checkpoint.content]
    if lacking:
        raise UserError(f"{path} cannot be gone on with: it has no {', '.join(lacking)}. Take one from a run folder.")
    config = configuration.read(checkpoint.folder.config, overrides)
    stored = checkpoint.content["hyper_parameters"]
    if exp and stored.get("exp") != exp:
        raise UserError(f"{path} is from experiment {stored.get('exp')}, not {exp}: resume it with exp left out.")
    _require_same(config, path, stored)
    if checkpoint.iterations >= config.train.meta_iterations and not may_be_done:
        raise UserError(
            f"{path} has done {checkpoint.iterations} meta-iterations, and train.meta_iterations, the total, is "
            f"{config.train.meta_iterations}: raise it to go on."
        )
    return config, checkpoint.folder, checkpoint


def _require_same(config: Config, path: Path, stored: Mapping[str, Any]) -> None:
    """Raise a UserError where a checkpoint was computed by another configuration, which `stored` is, with flat keys."""
    differing = [
        f"{key} is {value!r} here and {stored.get(key)!r} there"
        for key, value in configuration.flatten(config).items()
        if not key.startswith(MAY_CHANGE) and stored.get(key) != value
    ]
    if differing:
        raise UserError(
            f"{path} is from another configuration: {'; '.join(differing)}. Leave these keys, in config.yaml too, as "
            "they were, or start a new run."
        )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's tensors and plain values; code in it is refused.

    Args:
        path: of the checkpoint, or of a run folder for its newest one.

    Raises:
        UserError: it is missing, cut off, something else, or holds more than tensors and plain values.
    """
    path = RunFolder(path).last_checkpoint if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"The checkpoint {path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (torn bytes make torch and pickle raise nearly anything)
        # not in torch's words, which advise to load it with the code that it may hold
        raise UserError(
            f"The checkpoint {path} cannot be read: it is cut off or not a checkpoint, or it holds code, which is "
            f"never run ({type(error).__name__})."
        ) from None
    known = isinstance(content, dict) and isinstance(content.get("state_dict"), dict)
    if not known or not isinstance(content.get("epoch"), int):
        raise UserError(f"{path} is not a checkpoint of cmaml_pl, which has a state_dict and an epoch.")
    return Checkpoint(path, content)


def open_run(path: Path, checkpoint: Checkpoint | None = None) -> tuple[Config, RunFolder]:
    """The configuration and files of a run; where its checkpoint, None for the last one, is there, the two must agree.

    Raises:
        UserError: there is no such run, or its configuration is not the one that it was trained with.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise UserError(f"{path} is not a run folder: it has no config.yaml. Give one like runs/point_goal/RUN_ID.")
    config = configuration.read(folder.config)
    if checkpoint is None and folder.last_checkpoint.exists():
        checkpoint = load_checkpoint(folder.last_checkpoint)
    if checkpoint is not None:
        known = checkpoint.content.get("hyper_parameters", {})
        # a key that is newer than the run has its default
        _require_same(config, checkpoint.path, {**configuration.flatten(config), **known})
    return config, folder


def restore(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Give a module the parameters and buffers of a checkpoint."""
    try:
        module.load_state_dict(checkpoint.content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{checkpoint.path} is from another configuration: {error}") from None
