"""Draws a study's verdicts, so that its answer is seen at a glance, and the curves that others have published."""

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from cmaml_pl.evaluation.labels import find_looks
from cmaml_pl.evaluation.statistics import Summary
from cmaml_pl.figures.canvas import new_figure
from cmaml_pl.studies.definition import Study
from cmaml_pl.studies.inference import FAILS, HOLDS, UNDECIDED, Verdict
from cmaml_pl.studies.tables import verdict_lines

COLOURS = {HOLDS: "tab:green", FAILS: "tab:red", UNDECIDED: "tab:gray"}

WIDTH = 72
"""Longest line of a claim, in characters."""


def draw_verdicts(study: Study, verdicts: list[Verdict], path: Path) -> None:
    """Draw each claim as a row with its effect and interval, in a scale of its own.

    In the middle of a row is the smallest effect that matters: a claim holds if its interval is to the right of it, and
    does not hold if the interval is to the left.

    Args:
        study: says what is claimed.
        verdicts: on its claims, in their order.
        path: the PNG to write.
    """
    _, *lines = verdict_lines(study, verdicts)
    claims = [textwrap.fill(line[0], WIDTH) for line in lines]
    places = _places(claims)
    figure, grid = new_figure(1, 1, size=(12.0, 0.8 - 0.5 * places[-1]))
    axis = grid[0, 0]
    axis.axvspan(0, 1, color=COLOURS[HOLDS], alpha=0.08, linewidth=0)
    axis.axvspan(-1, 0, color=COLOURS[FAILS], alpha=0.08, linewidth=0)
    axis.axvline(0, color="black", linewidth=1)
    for place, line, claim, verdict in zip(places, lines, study.claims, verdicts, strict=True):
        effect, low, high = (
            value - claim.smallest_effect for value in (verdict.effect.value, verdict.effect.low, verdict.effect.high)
        )
        colour, scale = COLOURS[verdict.verdict], 1.1 * max(abs(low), abs(high))
        if math.isfinite(scale) and scale > 0:
            axis.plot([low / scale, high / scale], [place, place], color=colour, linewidth=2.5)
            axis.plot(effect / scale, place, color=colour, marker="o", markersize=7)
        words = f"{line[1]}, {verdict.verdict}"
        axis.text(1.02, place, words, color=colour, fontsize=9, va="center", transform=axis.get_yaxis_transform())
    ends = (places[-1] - 0.6, 0.6)
    axis.set(xlim=(-1, 1), ylim=ends, xticks=[-0.5, 0, 0.5], yticks=places, xlabel="each row in a scale of its own")
    axis.set_xticklabels(["\u2190 does not hold", "smallest effect\nthat matters", "holds \u2192"], fontsize=9)
    axis.set_yticklabels(claims, fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_published(study: Study, summaries: Sequence[Summary], path: Path) -> None:
    """Draw the return of the study's first arm along adaptation, with its interval, and dashed what is published.

    Args:
        study: says what is published.
        summaries: of all arms and steps.
        path: the PNG to write.
    """
    first = summaries[0].method
    ours = [summary for summary in summaries if summary.method == first]
    looks = find_looks([first, *(each.method for each in study.published)])
    figure, ((axis,),) = new_figure(1, 1, size=(8.0, 4.5))
    steps, colour = [summary.step for summary in ours], looks[first].colour
    value, low, high = ([getattr(each.returns, end) for each in ours] for end in ("value", "low", "high"))
    axis.plot(steps, value, color=colour, marker="o", linewidth=2, label=f"{looks[first].label} (this study)")
    axis.fill_between(steps, low, high, color=colour, alpha=0.13, linewidth=0)
    for each in study.published:
        returns, look = each.up_to(study.steps), looks[each.method]
        label = f"{look.label} ({each.source})"
        axis.plot([*returns], [*returns.values()], color=look.colour, marker="s", linestyle="--", label=label)
    axis.set(title="Return  (higher is better \u2191)", xlabel="adaptation steps", ylabel="return per episode")
    axis.locator_params(axis="x", integer=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    figure.savefig(path, dpi=120)


def _places(claims: list[str]) -> list[float]:
    """The height of each row, from 0 downward; a claim of more lines has more room."""
    places = [0.0]
    for first, second in pairwise(1 + text.count("\n") for text in claims):
        places.append(places[-1] - 0.3 - 0.15 * (first + second))
    return places
