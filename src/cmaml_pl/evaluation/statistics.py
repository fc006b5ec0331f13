"""Statistics of a meta-test: means over seeds and tasks, with intervals that hold for a few seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from cmaml_pl.evaluation.rows import Row, by_arm_and_step

Array = NDArray[np.float64]

LEVEL = 0.95
"""Of the confidence intervals."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval; NaN at both ends where one seed and one task leave nothing to compare.

    Attributes:
        value: the mean.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def text(self, factor: float = 1.0) -> str:
        """The mean and its interval, times `factor`, for a table."""
        value, low, high = (factor * number for number in (self.value, self.low, self.high))
        if math.isnan(value):
            return "unknown"
        return f"{value:.3g}" if math.isnan(low) else f"{value:.3g} [{low:.3g}, {high:.3g}]"

    @property
    def above_zero(self) -> bool:
        """Whether the interval lies wholly above 0."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the interval lies wholly below 0."""
        return self.high < 0


UNKNOWN = Estimate(math.nan, math.nan, math.nan)
"""Where nothing can be said."""


def variance_parts(scores: Array) -> list[tuple[int, Array]]:
    """The variance of a mean over seeds and tasks in parts, each with the number of values that it is estimated from.

    Seeds and tasks are crossed: every seed is tried on the same tasks, so that single scores are not independent. In
    the model x_st = mu + a_s + b_t + e_st, with V_A and V_B the variances of the means of rows and columns over their
    numbers S and T, and V_E the residual's over S T,

        E[V_A] = var(a)/S + V,    E[V_B] = var(b)/T + V,    E[V_E] = V = var(e)/(S T),

    and the variance of the mean is E[V_A + V_B - V_E]. The noise is left with the dimension that has more degrees of
    freedom: with fewer seeds than tasks the parts are (S, max(V_A - V_E, 0)) and (T, V_B). A dimension of length 1 is
    held fixed: with one seed the only part is that of tasks.

    Args:
        scores: (..., seeds, tasks).
    """
    seeds, tasks = scores.shape[-2:]
    if min(seeds, tasks) == 1:
        single = scores.reshape(*scores.shape[:-2], -1)
        n = single.shape[-1]
        return [(n, single.var(axis=-1, ddof=1) / n if n > 1 else np.full(scores.shape[:-2], math.nan))]
    of_seeds, of_tasks, noise = _crossed_variances(scores)
    (few, of_few), (many, of_many) = sorted([(seeds, of_seeds), (tasks, of_tasks)], key=itemgetter(0))
    return [(few, np.maximum(of_few - noise, 0.0)), (many, of_many)]


def _crossed_variances(scores: Array) -> tuple[Array, Array, Array]:
    """V_A, V_B and V_E of `variance_parts`, each (...)."""
    seeds, tasks = scores.shape[-2:]
    rows, columns = scores.mean(axis=-1), scores.mean(axis=-2)
    rest = scores - rows[..., :, None] - columns[..., None, :] + scores.mean(axis=(-2, -1))[..., None, None]
    noise = (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * (tasks - 1)) / (seeds * tasks)
    return rows.var(axis=-1, ddof=1) / seeds, columns.var(axis=-1, ddof=1) / tasks, noise


def components(scores: Array) -> tuple[float, float, float]:
    """Variances of the effects of seeds and of tasks and of the noise: var(a), var(b), var(e) of `variance_parts`.

    Args:
        scores: (seeds, tasks), at least two of each.
    """
    seeds, tasks = scores.shape
    of_seeds, of_tasks, noise = (float(part) for part in _crossed_variances(scores))
    return max(of_seeds - noise, 0.0) * seeds, max(of_tasks - noise, 0.0) * tasks, noise * seeds * tasks


def half_width(scores: Array) -> Array:
    """Half the width of the confidence interval of a mean over seeds and tasks, (...).

    Each part of the variance gets its own quantile of Student's t,

        h^2 = t_{S-1}^2 max(V_A - V_E, 0) + t_{T-1}^2 V_B

    (the confidence limits of sums of variances after Graybill and Wang 1980 have this form). One number of degrees of
    freedom for the sum (Satterthwaite) is too hopeful where it is estimated from three seeds. The interval speaks of
    other seeds and of other tasks of the family; see `variance_parts`.

    Args:
        scores: (..., seeds, tasks).
    """
    return tail_width(variance_parts(scores), (1 - LEVEL) / 2)


def tail_width(parts: Sequence[tuple[int, Array]], tail: float | Array) -> Array:
    """How far from its mean an interval ends beyond which `tail` is left on one side; see `half_width`.

    Args:
        parts: of the variance, see `variance_parts`.
        tail: probability, at most 1/2; (...) or one for all.
    """
    return np.asarray(np.sqrt(sum(stdtrit(n - 1, tail) ** 2 * part for n, part in parts)))


def estimate(scores: Array, *, within: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """The mean of all scores with its interval; see `half_width`.

    Args:
        scores: (seeds, tasks).
        within: what the mean can be at all; the interval is cut to it.
    """
    if scores.size == 0:
        return UNKNOWN
    value, half = float(scores.mean()), float(half_width(scores))
    if math.isnan(half):
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, max(value - half, within[0]), min(value + half, within[1]))


def table(rows: Sequence[Row], name: str) -> Array:
    """One quantity of one arm at one step, (seeds, tasks); every seed must have the same tasks."""
    return shared_tables([rows], name)[0]


def shared_tables(arms: Sequence[Sequence[Row]], name: str) -> list[Array]:
    """One quantity of several arms at one step each, on the seeds and tasks that all of them have, (seeds, tasks)."""
    values = [{(row["seed"], row["task"]): float(row[name]) for row in rows} for rows in arms]
    first = dict.fromkeys(key for key in values[0] if all(key in others for others in values))
    seeds, tasks = (list(dict.fromkeys(key[i] for key in first)) for i in (0, 1))
    return [np.array([[found[seed, task] for task in tasks] for seed in seeds]) for found in values]


@dataclass(frozen=True)
class Summary:
    """Statistics over all seeds and tasks of one arm after some adaptation steps.

    Attributes:
        method: name of the arm.
        step: number of adaptation steps.
        env_steps: number of environment steps per task that these adaptation steps used.
        seeds: number of seeds.
        tasks: number of tasks.
        cost_limit: d, cost per episode; the mean over tasks where each has its own.
        returns: return per episode.
        cost: cost per episode.
        max_cost: costliest episode of each seed and task.
        violation_rate: share of seeds and tasks whose mean cost is over their limit.
        worst_cost: the costliest episode of all.
        score: 0 at the random start, 1 at what the task allows within the limit; see `Yardstick`.
        anytime_cost: largest mean cost per episode over the steps up to this one: what adapting costs on the way.
        anytime_cost_worst_task: the same of the task where it is largest, its mean over seeds.
        critic_error: |Jhat_C - J_C|, by how much the safety critic is wrong about a task's mean cost per episode.
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
    score: Estimate
    anytime_cost: float
    anytime_cost_worst_task: float
    critic_error: Estimate


def summarise(rows: Sequence[Row], scores: Mapping[tuple[str, int], Estimate] | None = None) -> list[Summary]:
    """One summary for each arm and step, in the order of the rows.

    Args:
        rows: lines of evaluation.csv.
        scores: of arms and steps; unknown where there is none.
    """
    groups = by_arm_and_step(rows)
    summaries = []
    for (method, step), group in groups.items():
        # (steps so far, tasks): the limit is on an expectation, so seeds are averaged before the largest is taken
        costs = np.array(
            [table(groups[key], "cost").mean(axis=0) for key in groups if key[0] == method and key[1] <= step]
        )
        known = (scores or {}).get((method, step), UNKNOWN)
        summaries.append(_summarise_group(method, step, group, score=known, costs=costs))
    return summaries


def _summarise_group(method: str, step: int, rows: Sequence[Row], *, score: Estimate, costs: Array) -> Summary:
    returns, cost, max_cost, violated = (table(rows, name) for name in ("return", "cost", "max_cost", "violated"))
    return Summary(
        method=method,
        step=step,
        env_steps=float(np.mean([row["env_steps"] for row in rows])),
        seeds=len(returns),
        tasks=returns.shape[1],
        cost_limit=float(np.mean([row["cost_limit"] for row in rows])),
        returns=estimate(returns),
        cost=estimate(cost, within=(0.0, math.inf)),
        max_cost=estimate(max_cost, within=(0.0, math.inf)),
        violation_rate=estimate(violated, within=(0.0, 1.0)),
        worst_cost=float(max_cost.max()),
        score=score,
        anytime_cost=float(costs.mean(axis=1).max()),
        anytime_cost_worst_task=float(costs.max()),
        critic_error=estimate(table(rows, "critic_error"), within=(0.0, math.inf)),
    )


@dataclass(frozen=True)
class Comparison:
    """Two arms after the same adaptation steps: differences, the first less the second, paired by seed and task.

    Attributes:
        method: the first arm.
        other: the second.
        step: adaptation steps done.
        seeds: number of seeds that both have; with none the differences are unknown.
        returns: difference of the return per episode.
        cost: of the cost per episode.
        violation_rate: of the share of tasks over their limit.
    """

    method: str
    other: str
    step: int
    seeds: int
    returns: Estimate
    cost: Estimate
    violation_rate: Estimate


def compare(rows: Sequence[Row]) -> list[Comparison]:
    """Every ordered pair of arms after the last step: they share seeds, tasks and noise, so differences are paired."""
    last = max(int(row["step"]) for row in rows)
    arms = {method: group for (method, step), group in by_arm_and_step(rows).items() if step == last}

    def difference(method: str, other: str, name: str) -> Array:
        ours, theirs = shared_tables([arms[method], arms[other]], name)
        return ours - theirs

    return [
        Comparison(
            method=method,
            other=other,
            step=last,
            seeds=len(difference(method, other, "return")),
            returns=estimate(difference(method, other, "return")),
            cost=estimate(difference(method, other, "cost")),
            violation_rate=estimate(difference(method, other, "violated")),
        )
        for method in arms
        for other in arms
        if other != method
    ]
