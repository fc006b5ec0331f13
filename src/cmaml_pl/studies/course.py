"""What a run did in meta-training, read from its metrics.csv."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

EARLY, LATE = 10, 20
"""Meta-iterations at the beginning that are not counted, while the limit is not met yet; and those called the last."""


@dataclass(frozen=True)
class Course:
    """What the newest meta-policies of a run did in meta-training.

    Attributes:
        iterations: meta-iterations that were measured.
        return_before, return_after, cost_before, cost_after: before and after adaptation, means of the last LATE.
        over: meta-iterations after the EARLYth in which the meta-policy cost more than the limit, of `counted`.
        counted: meta-iterations after the EARLYth.
        eta: at the end; NaN if it is not there.
        at_cap: share of the meta-iterations in which eta is at its cap.
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


def find_course(metrics: Sequence[Mapping[str, float]], *, limit: float, eta_max: float) -> Course:
    """The course of a run with these lines of metrics.csv; NaN where nothing was measured."""
    lines = [line for line in metrics if "pre/cost" in line]
    etas = [line["eta"] for line in lines if "eta" in line]

    def late(name: str) -> float:
        found = [line[name] for line in lines[-LATE:] if name in line]
        return fmean(found) if found else math.nan

    return Course(
        iterations=len(lines),
        return_before=late("pre/return"),
        return_after=late("post/return"),
        cost_before=late("pre/cost"),
        cost_after=late("post/cost"),
        over=sum(line["pre/cost"] > limit for line in lines[EARLY:]),
        counted=len(lines[EARLY:]),
        eta=etas[-1] if etas else math.nan,
        at_cap=fmean(eta >= eta_max for eta in etas) if etas else math.nan,
    )
