"""Measures everything that an evaluation compares, some of it at once."""

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cmaml_pl.cores import usable_cores
from cmaml_pl.evaluation.arms import Run
from cmaml_pl.evaluation.meta_test import LEARNED, RANDOM, is_measured, measure
from cmaml_pl.evaluation.rows import Row
from cmaml_pl.evaluation.traces import Trace
from cmaml_pl.forks import CAN_FORK, Fork

PAUSE = 0.05
"""Seconds between two looks at processes that measure."""


@dataclass(frozen=True)
class Part:
    """One measurement of an evaluation: one arm with one seed.

    Attributes:
        method: name of the arm.
        run: the run whose checkpoint and configuration are used.
        start: LEARNED or RANDOM.
    """

    method: str
    run: Run
    start: str


def list_parts(runs: Sequence[Run]) -> list[Part]:
    """Everything that has to be measured: first the learned initialisations, arm by arm, then the random ones.

    A random initialisation takes normaliser, multiplier and critics from a run, so there would be one for each; of
    those with the same seed and the same way to adapt, that of one run stands for all: the first in `Run.order`, so
    that it does not depend on the order in which runs are named. That run's arm comes first among the random ones.
    """
    arms = dict.fromkeys(run.arm for run in runs)
    parts = [Part(arm, run, LEARNED) for arm in arms for run in runs if run.arm == arm]
    random: dict[str, dict[int, Part]] = {}
    for run in sorted(runs, key=lambda run: run.order):
        if run.random_arm is not None:
            random.setdefault(run.random_arm, {}).setdefault(run.config.seed, Part(run.random_arm, run, RANDOM))
    return [*parts, *(part for seeds in random.values() for _, part in sorted(seeds.items()))]


def measure_all(
    parts: Sequence[Part], steps: int, split: str, console: Console, *, jobs: int
) -> tuple[list[Row], dict[str, list[Trace]]]:
    """The rows of all parts, and the traces of each arm's first seed."""
    rows: list[Row] = []
    traces: dict[str, list[Trace]] = {}
    for i, (part, forked) in enumerate(_in_turn(parts, steps, split, jobs), start=1):
        found, kept = measure(part.run.config, part.run.folder, part.start, steps=steps, split=split)
        name = escape(f"{part.method}, seed {part.run.config.seed}")
        before = ": measured before" if kept and not forked else ""
        console.print(f"  {i}/{len(parts)}  {name}{before}", soft_wrap=True)
        rows += [{"method": part.method, **row} for row in found.rows]
        traces.setdefault(part.method, found.traces)
    return rows, traces


def _log(part: Part) -> Path:
    """What a fork prints that measures it."""
    part.run.folder.measurements.mkdir(exist_ok=True)
    return part.run.folder.measurements / f"{part.start}.log"


def _in_turn(parts: Sequence[Part], steps: int, split: str, jobs: int) -> Iterator[tuple[Part, bool]]:
    """Each part, and whether a fork has measured it by then; `jobs` forks do so at once, where there may be several.

    What a fork has failed to measure is left to whoever asks, who gets to know why.
    """
    arguments = [(part.run.config, part.run.folder, part.start) for part in parts]
    how: dict[str, Any] = {"steps": steps, "split": split}
    at_once = CAN_FORK and jobs > 1
    waiting = [i for i, of_part in enumerate(arguments) if at_once and not is_measured(*of_part, **how)]
    how["workers"] = max(1, usable_cores() // max(1, min(jobs, len(waiting))))
    forks: dict[int, Fork] = {}
    try:
        for i, part in enumerate(parts):
            while i in waiting or (i in forks and forks[i].poll() is None):
                if waiting and sum(fork.poll() is None for fork in forks.values()) < jobs:
                    following = waiting.pop(0)
                    work = partial(measure, *arguments[following], **how)
                    forks[following] = Fork(work, _log(parts[following]), stop=signal.SIGKILL)
                    forks[following].start()
                else:
                    time.sleep(PAUSE)
            yield part, i in forks
    finally:
        for fork in forks.values():  # Lightning's handler of SIGTERM would first end the whole measurement
            fork.send_signal(signal.SIGKILL)
