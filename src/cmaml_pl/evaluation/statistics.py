"""Statistics of a meta-test: interquartile means and bootstrap confidence intervals over seeds and tasks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean

from cmaml_pl.evaluation.rows import Row

Array = NDArray[np.float64]

LEVEL = 0.95
"""Level of the confidence intervals."""
RESAMPLES = 2000
"""Number of resamples of a bootstrap. With it, the ends of an interval vary by about a twentieth of the interval's
width between seeds of the resampling."""
SEED = 0
"""Seed of the resampling; it is fixed, so that the same rows give the same intervals."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its confidence interval.

    Attributes:
        value: value of the statistic.
        low: lower end of the interval; NaN for a single score (one seed, one task), which cannot be resampled.
        high: upper end of the interval; NaN for a single score.
    """

    value: float
    low: float
    high: float

    def above(self, other: "Estimate") -> bool:
        """Whether this interval lies wholly above the other one."""
        return self.low > other.high


@dataclass(frozen=True)
class Summary:
    """Statistics over all seeds and tasks of one arm after some adaptation steps.

    Attributes:
        method: name of the arm.
        step: number of adaptation steps.
        env_steps: number of environment steps per task that these adaptation steps used.
        seeds: number of seeds.
        tasks: number of tasks.
        cost_limit: mean of the tasks' limits, undiscounted cost per episode.
        returns: interquartile mean of the tasks' mean returns per episode.
        cost: interquartile mean of the tasks' mean costs per episode.
        max_cost: interquartile mean of the costs of the tasks' costliest episodes.
        violation_rate: share of tasks over their limit (a mean, not an interquartile mean).
        worst_cost: cost of the costliest episode of all tasks and seeds.
    """

    method: str
    step: int
    env_steps: float
    seeds: int
    tasks: int
    cost_limit: float
    returns: Estimate
    cost: Estimate
    max_cost: Estimate
    violation_rate: Estimate
    worst_cost: float


def interquartile_mean(scores: Array) -> Array:
    """Mean of the middle half along the last axis.

    A few failed seeds or hopeless tasks hardly change it, and it uses more of the scores than a median (Agarwal et al.
    2021, "Deep reinforcement learning at the edge of the statistical precipice").
    """
    return np.asarray(trim_mean(scores, 0.25, axis=-1))


def mean(scores: Array) -> Array:
    """Mean along the last axis."""
    return np.asarray(scores.mean(axis=-1))


def estimate(scores: Array, statistic: Callable[[Array], Array]) -> Estimate:
    """A statistic of all scores, with its percentile bootstrap interval over seeds and tasks.

    Seeds and tasks are crossed: every seed is tested on the same tasks. So scores in a row or in a column of the table
    are not independent, and resampling single scores would give intervals that are too narrow. Rows and columns are
    resampled instead, each with replacement and independently (Owen 2007, "The pigeonhole bootstrap", shows that the
    resulting intervals are slightly too wide). The interval is then valid for other seeds and other tasks of the
    family. A dimension of length 1 cannot be resampled and is held fixed: with one seed the interval is over tasks
    only.

    Args:
        scores: scores, (seeds, tasks).
        statistic: function that reduces the last axis, (..., n) -> (...).
    """
    if scores.size == 1:
        return Estimate(scores.item(), math.nan, math.nan)
    crossed = 1 not in scores.shape
    interval = bootstrap(
        [np.arange(n) for n in scores.shape] if crossed else [scores.ravel()],
        (lambda rows, columns, axis: statistic(_pick(scores, rows, columns)))
        if crossed
        else (lambda sample, axis: statistic(sample)),
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(float(statistic(scores.ravel())), float(interval.low), float(interval.high))


def _pick(scores: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Array:
    """The scores of given rows, (..., n), in given columns, (..., m), as (..., n m)."""
    return scores[rows[..., :, None], columns[..., None, :]].reshape(*rows.shape[:-1], -1)


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each arm and step, in the order of the rows."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((str(row["method"]), int(row["step"])), []).append(row)
    return [_summarise_group(method, step, group) for (method, step), group in groups.items()]


def _summarise_group(method: str, step: int, rows: Sequence[Row]) -> Summary:
    returns, cost, max_cost, violated = (table(rows, name) for name in ("return", "cost", "max_cost", "violated"))
    return Summary(
        method=method,
        step=step,
        env_steps=float(np.mean([row["env_steps"] for row in rows])),
        seeds=len(returns),
        tasks=returns.shape[1],
        cost_limit=float(np.mean([row["cost_limit"] for row in rows])),
        returns=estimate(returns, interquartile_mean),
        cost=estimate(cost, interquartile_mean),
        max_cost=estimate(max_cost, interquartile_mean),
        violation_rate=estimate(violated, mean),
        worst_cost=float(max_cost.max()),
    )


def table(rows: Sequence[Row], name: str) -> Array:
    """The column `name` of the rows of one arm and step, as (seeds, tasks); every seed must have the same tasks."""
    seeds, tasks = (list(dict.fromkeys(row[key] for row in rows)) for key in ("seed", "task"))
    values = {(row["seed"], row["task"]): float(row[name]) for row in rows}
    return np.array([[values[seed, task] for task in tasks] for seed in seeds])
