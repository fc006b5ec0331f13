"""The tables that a meta-test prints."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from cmaml_pl.evaluation.statistics import Comparison, Summary
from cmaml_pl.evaluation.yardstick import Yardstick


def summary_table(summaries: Sequence[Summary], yardstick: Yardstick | None = None) -> Table:
    """A line for each arm and step, with 95% intervals; the score where there is a yardstick."""
    table = Table(
        "arm",
        "step",
        *(["score"] if yardstick else []),
        "return",
        f"cost (limit {summaries[0].cost_limit:.4g})",
        "anytime (worst task)",
        "tasks over limit, %",
        box=None,
        pad_edge=False,
        caption=_caption(summaries, yardstick),
        caption_justify="left",
    )
    for before, summary in zip([None, *summaries], summaries, strict=False):
        first = before is None or before.method != summary.method
        table.add_row(
            escape(summary.method) if first else "",
            str(summary.step),
            *([escape(summary.score.text())] if yardstick else []),
            escape(summary.returns.text()),
            escape(summary.cost.text()),
            f"{summary.anytime_cost:.3g} ({summary.anytime_cost_worst_task:.3g})",
            escape(summary.violation_rate.text(100)),
        )
    return table


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Which arms are better than which after the last step: the interval of their paired difference excludes 0."""
    table = Table(
        f"after {comparisons[0].step} steps, apart",
        "return above that of",
        "cost below that of",
        "fewer tasks over limit than",
        box=None,
        pad_edge=False,
        caption="Apart: the 95% interval of the difference, paired by seed and task, excludes 0 (comparison.csv).",
        caption_justify="left",
    )
    for arm in dict.fromkeys(comparison.method for comparison in comparisons):
        pairs = [comparison for comparison in comparisons if comparison.method == arm]
        better = (
            [pair.other for pair in pairs if pair.returns.above_zero],
            [pair.other for pair in pairs if pair.cost.below_zero],
            [pair.other for pair in pairs if pair.violation_rate.below_zero],
        )
        table.add_row(escape(arm), *(escape(", ".join(names)) or "-" for names in better))
    return table


def _caption(summaries: Sequence[Summary], yardstick: Yardstick | None) -> str:
    seeds = sorted({summary.seeds for summary in summaries})
    lines = (
        f"Means with 95% intervals over {' or '.join(map(str, seeds))} seed(s) and {summaries[0].tasks} tasks. "
        "Anytime cost: the largest mean cost over the steps up to this one."
    )
    if yardstick:
        lines += (
            f"\nScore: 0 is {yardstick.random} at step 0 (return {yardstick.floor:.3g}), 1 the highest mean return "
            f"within the limit, that of {yardstick.method} at step {yardstick.step} ({yardstick.ceiling:.3g})."
        )
    return escape(lines)
