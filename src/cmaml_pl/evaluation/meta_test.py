"""The meta-test of one run: adapt on held-out tasks, step by step, and measure; what was measured is kept."""

import hashlib
import os
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cmaml_pl import config as configuration
from cmaml_pl.adaptation import Stage
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.config import Config
from cmaml_pl.evaluation.traces import Trace, record_traces
from cmaml_pl.files import in_one_move
from cmaml_pl.math.advantages import episode_sums
from cmaml_pl.runs import RunFolder, load_checkpoint, restore
from cmaml_pl.tasks.task import Task

Row = dict[str, str | int | float]
"""A line of evaluation.csv: method, seed, task, step, env_steps, return, cost, max_cost, cost_limit, violated."""

LEARNED, RANDOM = "learned", "random"
"""Where adaptation starts: at the weights of the checkpoint, or at the run's own first ones."""

FORMAT = 1
"""Of what is kept; a file of another one is measured anew."""


@dataclass(frozen=True)
class Measurement:
    """What a meta-test found.

    Attributes:
        rows: lines of evaluation.csv, without the method's name.
        traces: how the first tasks were played, before and after adaptation.
    """

    rows: list[Row]
    traces: list[Trace]


def measure(config: Config, folder: RunFolder, start: str, *, steps: int) -> tuple[Measurement, bool]:
    """The meta-test of a run, and whether it had been kept from an earlier time.

    It is taken from the run's folder if the same was measured there before: the same checkpoint, configuration, start
    and number of steps. Otherwise it is made, and kept there.

    Args:
        config: of the run.
        folder: its files.
        start: LEARNED or RANDOM.
        steps: adaptation steps.
    """
    what = {
        "format": FORMAT,
        "start": start,
        "steps": steps,
        "checkpoint": hashlib.sha256(folder.last_checkpoint.read_bytes()).hexdigest(),
        "config": {
            key: value
            for key, value in configuration.flatten(config).items()
            if not key.startswith(("quiet", "run.", "logger.", "trainer.", "rollout.workers"))
        },
    }
    path = folder.measurements / f"{start}_{steps}_steps.pt"
    kept = _read(path)
    if kept is not None and kept["what"] == what:
        return Measurement(kept["rows"], [Trace(**trace) for trace in kept["traces"]]), True
    found = adapt_from(config, folder.last_checkpoint, start, steps=steps)
    _write({"what": what, "rows": found.rows, "traces": [asdict(trace) for trace in found.traces]}, path)
    return found, False


def adapt_from(config: Config, checkpoint: Path, start: str, *, steps: int) -> Measurement:
    """Adapt to every test task and measure before the first step and after each.

    The random initialisation is given the run's observation normaliser, multiplier and critics: it differs from the
    learned one in the policy's weights alone. What is random depends on the seed, the batch of tasks and the step: all
    arms with this seed and as many tasks in a batch meet the same numbers.

    Args:
        config: of the run.
        checkpoint: its checkpoint.
        start: LEARNED or RANDOM.
        steps: adaptation steps.
    """
    rows: list[Row] = []
    traces: list[Trace] = []
    with open_module(config) as module:
        theta = module.actor.vector()
        restore(module, load_checkpoint(checkpoint))
        if start == LEARNED:
            theta = module.actor.vector()
        for index, tasks in enumerate(build_datamodule(config).test_dataloader()):
            stream = ("test", index)
            stages = module.adapt(tasks, steps, stream, theta=theta)
            for k, stage in enumerate(stages):
                rows += stage_rows(tasks, stage, step=k, seed=config.seed)
            if not traces:
                for k in (0, steps):
                    traces += record_traces(module.rollouts, tasks, stages[k].rollout, step=k, stream=stream)
    return Measurement(rows, traces)


def stage_rows(tasks: Sequence[Task], stage: Stage, *, step: int, seed: int) -> list[Row]:
    """What the tasks' policies did after `step` adaptation steps; the rollout measures them, and that costs nothing."""
    after = stage.rollout["next"]
    largest = episode_sums(after["cost"], after["done"]).nan_to_num(-torch.inf).amax(dim=(1, 2, 3))
    rows: list[Row] = []
    for p, task in enumerate(tasks):
        cost = stage.data.episode_cost[p].item()
        rows.append(
            {
                "seed": seed,
                "task": task.id,
                "step": step,
                "env_steps": step * stage.rollout[p].numel(),
                "return": stage.data.episode_return[p].item(),
                "cost": cost,
                "max_cost": max(cost, largest[p].item()),
                "cost_limit": task.cost_limit,
                "violated": int(cost > task.cost_limit),
            }
        )
    return rows


def _read(path: Path) -> dict[str, Any] | None:
    """A file that `_write` wrote; None where there is none that can be read."""
    try:
        content = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return content if isinstance(content, dict) and "what" in content else None


def _write(content: dict[str, Any], path: Path) -> None:
    """Replace the file in one move; several processes may do so."""
    path.parent.mkdir(exist_ok=True)
    with in_one_move(path, f".{os.getpid()}.tmp") as scratch:
        torch.save(content, scratch)
