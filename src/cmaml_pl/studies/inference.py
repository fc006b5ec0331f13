"""Decides claims about means over seeds and tasks: one-sided tests, Holm's correction, and how many seeds it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmaml_pl.evaluation.statistics import UNKNOWN, Array, Estimate, components, tail_width, variance_parts
from cmaml_pl.studies.skewness import deviation, reach, straighten, third_cumulant

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
"""The verdicts."""

ERROR = 0.025
"""Probability that a study has a false "holds", and again that it has a false "does not hold".

The intervals are approximate. In simulations of studies with four claims, up to 4 % had a false "holds" with three
seeds that differ far more than tasks do, and up to 11 % where tasks have very skew costs (42 % with Student's
intervals).
"""

POWER = 0.8
"""Probability with which the number of seeds that an undecided claim is said to need decides it."""

MOST_SEEDS = 1000
"""More seeds than this are not said to be needed."""

SMALLEST_P = 1e-12
"""Smaller p values are not told apart."""


@dataclass(frozen=True)
class Sample:
    """What a claim is decided by.

    Attributes:
        effects: of each seed and task, positive in the direction of the claim, (seeds, tasks).
        smallest: the smallest mean effect that matters: the claim is that the mean is greater.
        bounded: whether single effects are differences of something that is 0 or 1.
    """

    effects: Array
    smallest: float
    bounded: bool = False

    @property
    def excess(self) -> float:
        """By how much the mean effect is greater than the smallest one that matters."""
        return float(self.effects.mean()) - self.smallest

    @property
    def decidable(self) -> bool:
        """Whether there are the two seeds that are needed to say something about others, with finite effects."""
        return min(self.effects.shape) > 1 and self.finite

    @property
    def finite(self) -> bool:
        """Whether all effects are finite: a return may be NaN, and a limit infinite."""
        return bool(np.isfinite(self.effects).all())


@dataclass(frozen=True)
class Verdict:
    """What is known about one claim among those of its study.

    Attributes:
        verdict: HOLDS, FAILS or UNDECIDED.
        effect: the mean effect. Each end of the interval is at the level at which Holm's procedure tested the claim, so
            that the claim holds exactly where the whole interval is above the smallest effect that matters, and does
            not hold where it is below.
        plain: the mean effect with its 95 % interval, which knows of no other claims.
        p_holds: one-sided p value of "the effect is at most the smallest that matters".
        p_fails: one-sided p value of "the effect is at least the smallest that matters".
        seeds: number of seeds.
        seeds_needed: of an undecided claim, how many seeds in all would probably decide it; None where it is decided,
            or where up to MOST_SEEDS would not.
    """

    verdict: str
    effect: Estimate
    plain: Estimate
    p_holds: float
    p_fails: float
    seeds: int
    seeds_needed: int | None


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """The verdicts on all claims of a study, with Holm's correction for their number in each direction.

    Each direction has the error ERROR in the whole study (Holm 1979), as the two ends of 95 % intervals have. A claim
    without two seeds, or with an effect that is not finite, counts and stays undecided.
    """
    both = [p_values(sample) if sample.decidable else (1.0, 1.0) for sample in samples]
    holds, fails = ([pair[i] for pair in both] for i in (0, 1))
    return [
        _verdict(sample, p_holds, p_fails, of_holds, of_fails)
        for sample, p_holds, p_fails, of_holds, of_fails in zip(
            samples, holds, fails, holm_levels(holds), holm_levels(fails), strict=True
        )
    ]


def _verdict(sample: Sample, p_holds: float, p_fails: float, of_holds: float, of_fails: float) -> Verdict:
    """Of one claim, from its p values and the levels at which they are tested."""
    known = sample.effects.size and sample.finite
    seeds, mean = len(sample.effects), float(sample.effects.mean()) if known else math.nan
    if not sample.decidable:
        unknown = Estimate(mean, math.nan, math.nan)
        return Verdict(UNDECIDED, unknown, unknown if seeds else UNKNOWN, p_holds, p_fails, seeds, None)
    low, high = mean - width(sample, of_holds), mean + width(sample, of_fails, above=True)
    plain = Estimate(mean, mean - width(sample, ERROR), mean + width(sample, ERROR, above=True))
    verdict = HOLDS if p_holds <= of_holds else FAILS if p_fails <= of_fails else UNDECIDED
    needed = None
    if verdict == UNDECIDED:
        needed = seeds_needed(sample, of_holds if sample.excess > 0 else of_fails)
    return Verdict(verdict, Estimate(mean, low, high), plain, p_holds, p_fails, seeds, needed)


def holm_levels(p: Sequence[float], error: float = ERROR) -> list[float]:
    """The level at which each p value is tested: it is significant if it is at most that (Holm 1979).

    The smallest of m is tested at error / m, the next at error / (m - 1), and so on; from the first one on that is not
    significant, all are tested at its level.
    """
    levels = [0.0] * len(p)
    level, significant = 0.0, True
    for place, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        level = error / (len(p) - place) if significant else level
        levels[i], significant = level, significant and p[i] <= level
    return levels


def width(sample: Sample, tail: float, *, above: bool = False) -> float:
    """How far below its mean, or above it, a one-sided interval ends that leaves out `tail`.

    See `half_width` of the statistics, and `reach`, which makes one side longer than the other. Where single effects
    are 0 or 1, the interval is no shorter than one that holds for tasks that all agree: if a share of g of the tasks
    differed, T independent ones would all agree with probability (1 - g)^T, which is `tail` at g = 1 - tail^(1/T).
    Without it, a rate of 0 of 20 would count as 0 for certain.
    """
    far = float(reach(sample.effects, tail)[above])
    return max(far, _agreement(sample.effects.shape[1], tail)) if sample.bounded else far


def _agreement(tasks: int, tail: float) -> float:
    return 1.0 - float(tail ** (1.0 / tasks))


def p_values(sample: Sample) -> tuple[float, float]:
    """The one-sided p values of a claim that it holds, and that it does not.

    A p value is the tail at which the interval just ends at the smallest effect that matters.
    """
    parts = variance_parts(sample.effects)
    distance = float(straighten(sample.excess, deviation(parts), third_cumulant(sample.effects)))
    p = float(tail_of(parts, abs(distance)))
    if sample.bounded:
        p = max(p, (1.0 - min(abs(sample.excess), 1.0)) ** sample.effects.shape[1])
    p = min(p, 0.5)
    return (p, 1.0 - p) if distance > 0 else (1.0 - p, p)


def tail_of(parts: Sequence[tuple[int, Array]], distance: Array | float) -> Array:
    """The tail at which `tail_width` is `distance`, by bisection, between SMALLEST_P and 1/2; (...).

    Args:
        parts: of the variance, each (...).
        distance: from the mean, at least 0, (...).
    """
    low: NDArray[np.float64] = np.full(np.shape(distance), math.log(SMALLEST_P))
    high = np.full(np.shape(distance), math.log(0.5))
    for _ in range(40):
        middle = (low + high) / 2
        too_wide = tail_width(parts, np.exp(middle)) >= distance  # a larger tail makes it narrower
        low, high = np.where(too_wide, middle, low), np.where(too_wide, high, middle)
    return np.asarray(np.exp(high))


def seeds_needed(sample: Sample, tail: float) -> int | None:
    """How many seeds in all probably decide a claim, if the mean and the variances are as they are estimated.

    With S' seeds and the same T tasks the parts of the variance are expected to be var(a)/S' and
    var(b)/T + var(e)/(S' T), see `variance_parts`. The interval has to end before the smallest effect that matters even
    if the mean comes out as much nearer to it as one of POWER may: |excess| >= h(tail) + h(1 - POWER).
    """
    seeds, tasks = sample.effects.shape
    a, b, e = components(sample.effects)
    third = third_cumulant(sample.effects)
    for more in range(seeds + 1, MOST_SEEDS + 1):
        noise = e / (more * tasks)
        of_seeds, of_tasks = (a / more, b / tasks + noise) if more <= tasks else (a / more + noise, b / tasks)
        parts = [(more, np.array(of_seeds)), (tasks, np.array(of_tasks))]
        half = float(tail_width(parts, tail))
        if sample.bounded:
            half = max(half, _agreement(tasks, tail))
        distance = float(straighten(sample.excess, deviation(parts), third))
        if distance * sample.excess > 0 and abs(distance) >= half + float(tail_width(parts, 1 - POWER)):
            return more
    return None
