"""The meta-test of one run: adapts to held-out tasks, measures each step, and keeps the measurement in a file."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_pl.algorithm.adaptation import Stage
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.schema import Config
from cmaml_pl.deployment.base import Adapted
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.rows import Row, stage_rows
from cmaml_pl.evaluation.sources import ELSEWHERE, own_sources, sources_digest
from cmaml_pl.evaluation.traces import Trace, record_traces
from cmaml_pl.files import in_one_move
from cmaml_pl.runs.checkpoints import load_checkpoint, restore
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.task import Task

LEARNED, RANDOM = "learned", "random"
"""The weights that adaptation starts from: those of the checkpoint, or the run's first ones, before it was trained."""

MEASURED = ("test", "validation")
"""Splits on which runs can be measured: held-out tasks, and those that settings are tuned on."""

FORMAT = 1
"""Version of the format of kept measurements; a file of another version is ignored, and the run is measured anew."""


@dataclass(frozen=True)
class Measurement:
    """The result of a meta-test.

    Attributes:
        rows: lines of evaluation.csv, without the method's name.
        traces: positions of everything in the first tasks, before and after adaptation.
    """

    rows: list[Row]
    traces: list[Trace]


def measure(
    config: Config, folder: RunFolder, start: str, *, steps: int, split: str = "test", workers: int | None = None
) -> tuple[Measurement, bool]:
    """The measurement of a run's meta-test, and whether it was read from the run's folder.

    It is taken from the run's folder if the same was measured there before: the same checkpoint, configuration, start,
    number of steps and split, by the same code, the user's own modules that the configuration names included. Otherwise
    it is made, and kept there.

    Args:
        config: the run's configuration.
        folder: the run's files.
        start: LEARNED or RANDOM. A random start is no policy to fall back on: it is deployed as it has adapted.
        steps: number of adaptation steps.
        split: one of MEASURED.
        workers: `rollout.workers`, in place of the run's; None takes all cores.
    """
    config = _as_deployed(config, start)
    what, path = _identify(config, folder, start, steps=steps, split=split)
    kept = _read(path, what)
    if kept is not None:
        return Measurement(kept["rows"], [Trace(**trace) for trace in kept["traces"]]), True
    config = replace(config, rollout=replace(config.rollout, workers=workers))
    found = adapt_from(config, _find_checkpoint(config, folder), start, steps=steps, split=split)
    _write({"what": what, "rows": found.rows, "traces": [asdict(trace) for trace in found.traces]}, path)
    return found, False


def is_measured(config: Config, folder: RunFolder, start: str, *, steps: int, split: str = "test") -> bool:
    """Whether `measure`, with the same arguments, finds its measurement in the run's folder."""
    what, path = _identify(_as_deployed(config, start), folder, start, steps=steps, split=split)
    return _read(path, what) is not None


def _as_deployed(config: Config, start: str) -> Config:
    """The configuration of a measurement from this start."""
    return replace(config, deployment=Adapted()) if start == RANDOM else config


def _identify(config: Config, folder: RunFolder, start: str, *, steps: int, split: str) -> tuple[dict[str, Any], Path]:
    """What tells a measurement from all others, and where it is kept."""
    what = {
        "format": FORMAT,
        "start": start,
        "steps": steps,
        **({} if split == "test" else {"split": split}),
        "code": sources_digest(),
        **({"own code": own} if (own := own_sources(config)) else {}),
        "checkpoint": hashlib.sha256(_find_checkpoint(config, folder).read_bytes()).hexdigest(),
        "config": {
            key: value for key, value in flatten(config).items() if not key.startswith((*ELSEWHERE, "rollout.workers"))
        },
    }
    deployment = config.deployment
    ending = "" if isinstance(deployment, Adapted) else f"_{deployment.method.replace(':', '-')}"
    ending += "" if deployment.checkpoint == "last" else f"_{deployment.checkpoint}"
    if not isinstance(deployment, Adapted):  # two may differ in their settings alone
        ending += f"_{crc32(repr(sorted(asdict(deployment).items())).encode()):08x}"
    return what, folder.measurements / f"{'' if split == 'test' else f'{split}_'}{start}_{steps}_steps{ending}.pt"


def _find_checkpoint(config: Config, folder: RunFolder) -> Path:
    """The checkpoint that is deployed."""
    if config.deployment.checkpoint == "last":
        return folder.last_checkpoint
    if not folder.best_checkpoint.exists():
        raise UserError(
            f"deployment.checkpoint is best, but there is no {folder.best_checkpoint}: no validation has been made, or "
            "an earlier version trained it. Measure it with deployment.checkpoint=last."
        )
    return folder.best_checkpoint


class Recorder(Callback):
    """Records what the policies of `CMAML.test_step` did before the first adaptation step and after each step.

    Args:
        seed: the configuration's seed, which the rows name.

    Attributes:
        rows: the same as in Measurement.
        traces: the same as in Measurement.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self.rows: list[Row] = []
        self.traces: list[Trace] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: list[Task],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record the rows of all tasks, and the traces of the first tasks."""
        assert isinstance(pl_module, CMAML)
        stages: list[Stage] = outputs["stages"]
        discount = pl_module.estimator.limit_discount
        for step, stage in enumerate(stages):
            predicted = pl_module.predicted_episode_costs(stage.rollout)
            self.rows += stage_rows(batch, stage, step=step, seed=self.seed, discount=discount, predicted=predicted)
        if not self.traces:
            stream, steps = ("test", batch_idx), dict.fromkeys((0, len(stages) - 1))
            for step in steps:
                self.traces += record_traces(pl_module.rollouts, batch, stages[step].rollout, step=step, stream=stream)


def adapt_from(config: Config, checkpoint: Path, start: str, *, steps: int, split: str) -> Measurement:
    """Adapt to every task of a split, and measure before the first step and after each step.

    The random initialisation uses the observation normaliser, the multiplier and the critics of the run: it differs
    from the learned one only in the policy's weights. The random numbers depend on the seed, the batch of tasks and the
    step, so that all arms with the same seed and the same number of tasks in a batch get the same ones.

    Args:
        config: the run's configuration.
        checkpoint: the run's checkpoint.
        start: LEARNED or RANDOM.
        steps: number of adaptation steps.
        split: one of MEASURED.
    """
    recorder = Recorder(seed=config.seed)
    with open_module(config) as module:
        module.inner = replace(module.inner, steps=steps)
        first_weights = module.actor.vector()
        restore(module, load_checkpoint(checkpoint))
        if start == RANDOM:
            module.deployed.copy_(first_weights)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            callbacks=[recorder],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,  # adaptation needs gradients
        )
        trainer.test(module, build_datamodule(config, measured=split), verbose=False)
    return Measurement(recorder.rows, recorder.traces)


def _read(path: Path, what: Mapping[str, Any]) -> dict[str, Any] | None:
    """The content of a file that `_write` wrote; None if there is none that can be read, or it is of something else."""
    try:
        content = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return content if isinstance(content, dict) and content.get("what") == what else None


def _write(content: dict[str, Any], path: Path) -> None:
    """Replace the file in one move; several processes may do this at the same time."""
    path.parent.mkdir(exist_ok=True)
    with in_one_move(path, f".{os.getpid()}.tmp") as scratch:
        torch.save(content, scratch)
