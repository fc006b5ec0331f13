"""What a run did in meta-training, and what it took, read from its metrics.csv."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.evaluation.meta_test import LEARNED
from cmaml_pl.evaluation.report import Evaluation

EARLY, LATE = 10, 20
"""Meta-iterations at the beginning that are not counted, while the limit is not met yet; and those called the last."""


@dataclass(frozen=True)
class Course:
    """What the newest meta-policies of a run did in meta-training.

    Attributes:
        iterations: meta-iterations that were measured.
        return_before, return_after, cost_before, cost_after: before and after adaptation, means of the last LATE.
        over: meta-iterations after the EARLYth in which the meta-policy cost more than its tasks' mean limit, of
            `counted`.
        counted: meta-iterations after the EARLYth.
        eta: at the end; NaN if it is not there.
        at_cap: share of the meta-iterations in which eta is at its cap.
        env_steps: environment steps of the run.
        seconds: that they took with their updates, without validation.
    """

    iterations: int
    return_before: float
    return_after: float
    cost_before: float
    cost_after: float
    over: int
    counted: int
    eta: float
    at_cap: float
    env_steps: float
    seconds: float


def find_courses(evaluation: Evaluation) -> dict[str, list[Course]]:
    """Arm -> the courses of its runs, of all trained arms whose runs have a metrics.csv."""
    courses: dict[str, list[Course]] = {}
    for part in evaluation.parts:
        if part.start == LEARNED and (metrics := part.run.folder.metrics).exists():
            config = part.run.config
            course = find_course(read_metrics(metrics), limit=config.inner.cost_limit, eta_max=config.safety.eta_max)
            courses.setdefault(part.method, []).append(course)
    return courses


def find_course(metrics: Sequence[Mapping[str, float]], *, limit: float, eta_max: float) -> Course:
    """The course of a run with these lines of metrics.csv; NaN where nothing was measured.

    `limit` is for lines of earlier versions, which do not say whether the meta-policy was over that of its tasks.
    """
    lines = [line for line in metrics if "pre/cost" in line]
    etas = [line["eta"] for line in lines if "eta" in line]
    env_steps, seconds = _effort(metrics)

    def late(name: str) -> float:
        found = [line[name] for line in lines[-LATE:] if name in line]
        return fmean(found) if found else math.nan

    return Course(
        iterations=len(lines),
        return_before=late("pre/return"),
        return_after=late("post/return"),
        cost_before=late("pre/cost"),
        cost_after=late("post/cost"),
        over=int(sum(line.get("pre/over_limit", line["pre/cost"] > limit) for line in lines[EARLY:])),
        counted=len(lines[EARLY:]),
        eta=etas[-1] if etas else math.nan,
        at_cap=fmean(eta >= eta_max for eta in etas) if etas else math.nan,
        env_steps=env_steps,
        seconds=seconds,
    )


def _effort(metrics: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Environment steps of a run, and the seconds that they took."""
    before, seconds = 0.0, 0.0
    for line in metrics:
        steps, speed = line.get("throughput/env_steps"), line.get("throughput/env_steps_per_s")
        if steps and speed:
            seconds += (steps - before) / speed
            before = steps
    return before, seconds
