"""Starts a run, resumes a run, or opens a trained run."""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from cmaml_pl.configuration.loading import (
    check_name,
    experiments,
    load_experiment,
    load_stored,
    own_name,
    with_own_names,
)
from cmaml_pl.configuration.merging import NEWER, flatten, rename_flat
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError
from cmaml_pl.runs.checkpoints import Checkpoint, load_checkpoint
from cmaml_pl.runs.folder import RunFolder

FREE_ON_RESUME = (
    *("quiet", "run.", "logger.", "trainer."),
    *("train.meta_iterations", "train.validate_every", "train.max_dropped", "rollout.workers"),
)
"""Beginnings of the keys in which a resumed run may differ from its checkpoint: none of them changes what an iteration
computes."""

RUN_ID = "CMAML_RUN_ID"
"""Environment variable by which the first process tells the processes that Lightning starts the id of their run."""

NEEDED_TO_RESUME = ("hyper_parameters", "optimizer_states", "loops", "callbacks", "pytorch-lightning_version")
"""Entries that a checkpoint must have to resume training, in addition to parameters and epoch."""

AUTO = "auto"
"""The value of run.resume that continues a run if it has a checkpoint, and starts it otherwise."""


def prepare_run(overrides: Sequence[str]) -> tuple[Config, RunFolder, Checkpoint | None]:
    """The configuration, the folder and the checkpoint of the run that the overrides of the verb `train` ask for.

    A new run gets a new folder and no checkpoint (None). A resumed run continues in the folder of its checkpoint, with
    the configuration stored there. With run.resume=auto, the run that run.id names is resumed if it has a checkpoint,
    even if it has done all its meta-iterations; otherwise it is started.

    Under a W&B sweep agent, the agent gives the run's id, and the run is resumed if it has a checkpoint; see
    `agent_overrides`.

    Raises:
        UserError: an override is not valid, or the run cannot be resumed.
    """
    overrides = [*overrides, *agent_overrides(os.environ)]
    given = parse_overrides(overrides)
    exp = find_value(given, "exp")
    name = exp and own_name("exp", str(exp))
    resume = find_value(given, "run.resume")
    if resume and resume != AUTO:
        for key in ("run.id", "run.dir"):
            if find_value(given, key) is not None:
                raise UserError(f"{key} cannot be set with run.resume: a resumed run goes on in its own folder.")
        return _resumed_run(load_checkpoint(Path(str(resume))), name, with_own_names(overrides))
    if not exp:
        known = ", ".join(experiments())
        raise UserError(f"exp is missing: exp=NAME, one of {known}, or exp=FILE.yaml, an experiment of your own.")
    config = load_experiment(str(exp), overrides)
    if resume and not config.run.id:
        raise UserError("run.resume=auto needs run.id: it goes on with that run where it has begun.")
    label = f"{config.arm}-s{config.seed}" if config.arm else f"s{config.seed}"
    new_id = f"{datetime.now():%Y%m%d-%H%M%S}-{label}-{secrets.token_hex(2)}"
    run_id = config.run.id or os.environ.get(RUN_ID) or new_id
    if config.run.id and not config.logger.id:  # a run in another folder, or one that was removed, may have had the name
        config = replace(config, logger=replace(config.logger, id=f"{config.exp}-{run_id}-{secrets.token_hex(2)}"))
    config = replace(config, run=replace(config.run, id=run_id))
    _check_names(config)
    folder = RunFolder(Path(config.run.dir) / config.exp / run_id)
    newest = folder.newest_good_checkpoint() if resume else None
    if newest:
        return _resumed_run(newest, name, with_own_names(overrides), may_be_done=True)
    return config, folder, None


def agent_overrides(environ: Mapping[str, str]) -> list[str]:
    """The settings that a W&B sweep agent gives in environment variables, as overrides; none without an agent.

    The run gets the id of the W&B run. This id is stored in the configuration with entity and project, so that a run of
    a sweep that is later resumed without the agent continues the same W&B run.
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
    # json.dumps quotes the values, so that an id that has only digits stays a string
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value]


def _check_names(config: Config) -> None:
    for key, value in (("id", config.run.id), ("label", config.run.label)):
        if value is not None:
            check_name(value, f"run.{key} is {value!r}, but")


def _resumed_run(
    checkpoint: Checkpoint, exp: Any, overrides: Sequence[str], *, may_be_done: bool = False
) -> tuple[Config, RunFolder, Checkpoint]:
    path = checkpoint.path
    lacking = [key for key in NEEDED_TO_RESUME if key not in checkpoint.content]
    if lacking:
        raise UserError(f"{path} cannot be gone on with: it has no {', '.join(lacking)}. Take one from a run folder.")
    config = load_stored(RunFolder.of(checkpoint).config, overrides)
    _check_names(config)
    stored = checkpoint.content["hyper_parameters"]
    if exp and stored.get("exp") != exp:
        raise UserError(f"{path} is from experiment {stored.get('exp')}, not {exp}: resume it with exp left out.")
    _require_same(config, path, stored)
    if checkpoint.iterations >= config.train.meta_iterations and not may_be_done:
        raise UserError(
            f"{path} has done {checkpoint.iterations} meta-iterations, and train.meta_iterations, the total, is "
            f"{config.train.meta_iterations}: raise it to go on."
        )
    return config, RunFolder.of(checkpoint), checkpoint


def _require_same(config: Config, path: Path, stored: Mapping[str, Any]) -> None:
    """Raise a UserError if the checkpoint at `path` was computed by another configuration.

    `stored` is the checkpoint's configuration, with dotted keys.
    """
    here, there = flatten(config), rename_flat(stored)  # which adds NEWER, also where a family or method lacks them
    differing = [
        f"{key} is {here.get(key)!r} here and {there.get(key)!r} there"
        for key in dict.fromkeys([*here, *(key for key in there if key not in NEWER)])
        if not key.startswith(FREE_ON_RESUME) and here.get(key) != there.get(key)
    ]
    if differing:
        raise UserError(
            f"{path} is from another configuration: {'; '.join(differing)}. Leave these keys, in config.yaml too, as "
            "they were, or start a new run."
        )


def open_run(path: Path, checkpoint: Checkpoint | None = None) -> tuple[Config, RunFolder]:
    """The configuration and the files of the run in the folder `path`.

    If `checkpoint` is given, or the run has a last checkpoint, its configuration must be the stored one.

    Raises:
        UserError: there is no such run, or its configuration is not the one that it was trained with.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise UserError(f"{path} is not a run folder: it has no config.yaml. Give one like runs/point_goal/RUN_ID.")
    config = load_stored(folder.config)
    if checkpoint is None and folder.last_checkpoint.exists():
        checkpoint = load_checkpoint(folder.last_checkpoint)
    if checkpoint is not None:
        known = rename_flat(checkpoint.content.get("hyper_parameters", {}))
        # a key that did not exist when the run was trained counts as equal
        _require_same(config, checkpoint.path, {**flatten(config), **known})
    return config, folder
