"""The score of an adaptation step: how far from the random start to what the task allows within its limit."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from cmaml_pl.evaluation.rows import Row, by_arm_and_step
from cmaml_pl.evaluation.statistics import UNKNOWN, Estimate, estimate, table


class NoYardstickError(Exception):
    """There is nothing to measure a score by; the message says why, and what would help."""


@dataclass(frozen=True)
class Yardstick:
    """What the score of a return R is: (R - floor) / (ceiling - floor).

    The ceiling is the best mean return within the limit that the oracle has at any of its steps. Where another arm has
    a higher one within its limit, that is the ceiling: adaptation given enough steps may end beyond what one policy for
    all tasks makes of seeing them.

    Attributes:
        random: the arm whose start, before adaptation, is the floor.
        method: the arm that is the ceiling.
        step: at which of its adaptation steps.
        floor: mean return per episode of the random start.
        ceiling: mean return per episode of the ceiling.
    """

    random: str
    method: str
    step: int
    floor: float
    ceiling: float

    def score(self, value: float) -> float:
        """Of a return per episode."""
        return (value - self.floor) / (self.ceiling - self.floor)


def find_yardstick(rows: Sequence[Row], *, oracles: Collection[str], random: str | None) -> Yardstick:
    """What the arms' returns are measured by.

    Args:
        rows: lines of evaluation.csv.
        oracles: the arms that observe their task.
        random: the arm of the random start.

    Raises:
        NoYardstickError: there is no oracle, none within the limit, or no random start below it.
    """
    if not oracles:
        raise NoYardstickError("there is no oracle among the runs: train one with ARM=oracle and name it as well")
    if random is None:
        raise NoYardstickError("there is no random start beside oracles alone: name a run that does not see its task")
    groups = by_arm_and_step(rows)
    means = {key: float(np.mean([row["return"] for row in group])) for key, group in groups.items()}
    within = {key: means[key] for key, group in groups.items() if _within_limit(group)}
    if not any(method in oracles for method, _ in within):
        raise NoYardstickError("the oracle is over the limit at every step: train it for longer")
    method, step = max(within, key=lambda key: (within[key], key[0] in oracles))
    floor, ceiling = means[random, 0], within[method, step]
    if ceiling <= floor:
        raise NoYardstickError("the oracle is no better than the random start: train it for longer")
    return Yardstick(random, method, step, floor, ceiling)


def _within_limit(rows: Sequence[Row]) -> bool:
    """Whether the mean cost of an arm at one step is within the limit, which is on an expectation."""
    return float(np.mean([row["cost"] for row in rows])) <= float(np.mean([row["cost_limit"] for row in rows]))


def estimate_scores(rows: Sequence[Row], yardstick: Yardstick) -> dict[tuple[str, int], Estimate]:
    """The score of every arm and step, on the seeds that it shares with both ends of the yardstick."""
    groups = by_arm_and_step(linear_scores(rows, yardstick))
    return {key: estimate(table(groups[key], "score")) if key in groups else UNKNOWN for key in by_arm_and_step(rows)}


def linear_scores(rows: Sequence[Row], yardstick: Yardstick) -> list[Row]:
    """The rows of seeds that have both ends of the yardstick, with a `score` whose mean is the arm's at this step.

    All three share seeds, tasks and noise. The score s is a ratio of means, of gains g and spans h, whose deviation is
    to first order that of the mean of (g - s h) / mean h (the delta method). A row's score is s + (g - s h) / mean h:
    intervals of it are those of paired differences.
    """
    groups = by_arm_and_step(rows)
    low, high = (
        {(row["seed"], row["task"]): float(row["return"]) for row in groups[end]}
        for end in ((yardstick.random, 0), (yardstick.method, yardstick.step))
    )
    scored: list[Row] = []
    for group in groups.values():
        found = {key: row for row in group if (key := (row["seed"], row["task"])) in low and key in high}
        gains = {key: float(row["return"]) - low[key] for key, row in found.items()}
        spans = {key: high[key] - low[key] for key in found}
        span = float(np.mean(list(spans.values()))) if spans else 0.0
        if span <= 0:
            continue
        score = float(np.mean(list(gains.values()))) / span
        scored += [{**row, "score": score + (gains[key] - score * spans[key]) / span} for key, row in found.items()]
    return scored


def with_scores(rows: Sequence[Row], yardstick: Yardstick | None) -> list[Row]:
    """The rows with `score`, NaN without a yardstick, and `anytime_cost`, the task's largest mean cost so far."""
    costs: dict[tuple[object, ...], dict[int, float]] = {}
    for row in rows:
        costs.setdefault(_policy(row), {})[int(row["step"])] = float(row["cost"])
    return [
        {
            **row,
            "score": yardstick.score(float(row["return"])) if yardstick else math.nan,
            "anytime_cost": max(cost for step, cost in costs[_policy(row)].items() if step <= int(row["step"])),
        }
        for row in rows
    ]


def _policy(row: Row) -> tuple[object, ...]:
    """Whose adaptation a row belongs to."""
    return row["method"], row["seed"], row["task"]
