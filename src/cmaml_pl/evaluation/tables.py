"""The tables that a meta-test prints."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from cmaml_pl.evaluation.statistics import Estimate, Summary


def summary_table(summaries: Sequence[Summary]) -> Table:
    """A table with a line for each arm and step, with 95% intervals."""
    table = Table(
        "arm",
        "step",
        "return",
        f"cost (limit {summaries[0].cost_limit:g})",
        "costliest episode",
        "tasks over limit, %",
        box=None,
        pad_edge=False,
        caption=_caption(summaries),
        caption_justify="left",
    )
    for before, summary in zip([None, *summaries], summaries, strict=False):
        first = before is None or before.method != summary.method
        table.add_row(
            escape(summary.method) if first else "",
            str(summary.step),
            _cell(summary.returns),
            _cell(summary.cost),
            _cell(summary.max_cost),
            _cell(summary.violation_rate, factor=100),
        )
    return table


def comparison_table(summaries: Sequence[Summary]) -> Table:
    """A table that says for each arm which others it is better than after the last step.

    An arm counts as better only if the two intervals do not overlap.
    """
    last = max(summary.step for summary in summaries)
    arms = [summary for summary in summaries if summary.step == last]
    table = Table(
        f"after {last} steps, intervals apart",
        "return above that of",
        "cost below that of",
        "fewer tasks over limit than",
        box=None,
        pad_edge=False,
    )
    for arm in arms:
        others = [other for other in arms if other is not arm]
        better = (
            [other.method for other in others if arm.returns.above(other.returns)],
            [other.method for other in others if other.cost.above(arm.cost)],
            [other.method for other in others if other.violation_rate.above(arm.violation_rate)],
        )
        table.add_row(escape(arm.method), *(escape(", ".join(names)) or "-" for names in better))
    return table


def _caption(summaries: Sequence[Summary]) -> str:
    seeds = sorted({summary.seeds for summary in summaries})
    return (
        f"Interquartile means with 95% bootstrap intervals over {' or '.join(map(str, seeds))} seed(s) and "
        f"{summaries[0].tasks} tasks; the share of tasks is a mean."
    )


def _cell(estimate: Estimate, *, factor: float = 1.0) -> str:
    value, low, high = (f"{factor * number:.3g}" for number in (estimate.value, estimate.low, estimate.high))
    return escape(f"{value} [{low}, {high}]")
