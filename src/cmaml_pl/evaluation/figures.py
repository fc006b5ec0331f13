"""Draws the figures of a meta-test: return and cost along adaptation, and return against cost."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cmaml_pl.evaluation.labels import Look, choose
from cmaml_pl.evaluation.rows import Row
from cmaml_pl.evaluation.statistics import Estimate, Summary
from cmaml_pl.figures.canvas import new_figure

CUT = 4.0
"""Where an arm costs more than this many limits, an axis ends there: what matters is near the limit."""


@dataclass(frozen=True)
class Panel:
    """One quantity along adaptation: its name in Summary, a title that says what is better, its unit, factor to it."""

    name: str
    title: str
    unit: str
    factor: float = 1.0


SCORE = Panel(
    "score",
    "Score  (higher is better \u2191)",
    "share of the way from a random start\nto the best return within the limit",
)
PANELS = (
    Panel("returns", "Return  (higher is better \u2191)", "return per episode"),
    Panel("cost", "Cost  (lower is better \u2193)", "cost per episode"),
    Panel("violation_rate", "Tasks over their limit  (lower is better \u2193)", "share of tasks, %", 100.0),
)


def cost_unit(discount: float) -> str:
    """What an axis of costs shows, if the limits are on costs with this discount."""
    return "cost per episode" if discount == 1.0 else "discounted cost per episode"


def plot_finetuning(summaries: Sequence[Summary], path: Path, *, discount: float = 1.0) -> None:
    """Score, where there is one, return, cost and share of tasks over their limit along adaptation, with intervals.

    Args:
        summaries: summaries of all arms and steps.
        path: the PNG to write.
        discount: of the costs that the limits are on.
    """
    scored = any(not math.isnan(summary.score.value) for summary in summaries)
    figure, grid = new_figure(2, 2, size=(10, 7.4)) if scored else new_figure(1, 3, size=(13, 4.2))
    panels = [SCORE, *PANELS] if scored else PANELS
    drawn, left_out = choose(list(dict.fromkeys(summary.method for summary in summaries)))
    for panel, axis in zip(panels, grid.flat, strict=True):
        draw_panel(axis, panel, summaries, drawn, discount=discount)
    _save(figure, grid.flat, summaries, drawn, left_out, path)


def draw_panel(
    axis: Axes, panel: Panel, summaries: Sequence[Summary], drawn: Mapping[str, Look], *, discount: float
) -> None:
    """One quantity along adaptation for all arms of `drawn`; the cost with its limit."""
    for method, look in drawn.items():
        _draw_curve(axis, [summary for summary in summaries if summary.method == method], panel, look.colour)
    unit = cost_unit(discount) if panel.name == "cost" else panel.unit
    axis.set(title=panel.title, ylabel=unit, xlabel="environment steps of adaptation, per task")
    axis.locator_params(axis="x", nbins=5)
    if panel.name == "cost":
        axis.set_ylim(bottom=0)
        _draw_limit(axis, summaries, drawn, of="y")
    elif panel.name == "violation_rate":
        axis.set_ylim(-2, 102)
    elif panel is SCORE:
        for level in (0, 1):
            axis.axhline(level, color="black", linestyle=":", linewidth=1)


def _draw_curve(axis: Axes, curve: Sequence[Summary], panel: Panel, colour: str) -> None:
    """An arm with its intervals; its points are hollow where its mean cost is over the limit."""
    estimates: list[Estimate] = [getattr(summary, panel.name) for summary in curve]
    x = [summary.env_steps for summary in curve]
    value, low, high = (
        [panel.factor * getattr(estimate, end) for estimate in estimates] for end in ("value", "low", "high")
    )
    axis.plot(x, value, color=colour, linewidth=1.8)
    axis.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    for summary, at, number in zip(curve, x, value, strict=True):
        _draw_point(axis, at, number, colour, hollow=summary.cost.value > summary.cost_limit)


def plot_scatter(rows: Sequence[Row], summaries: Sequence[Summary], path: Path, *, discount: float = 1.0) -> None:
    """Draw return against cost after adaptation: a point for each seed and task, and a line for each arm.

    The line connects the arm's means from before adaptation to the last step.

    Args:
        rows: lines of evaluation.csv.
        summaries: summaries of the same rows.
        path: the PNG to write.
        discount: of the costs that the limits are on.
    """
    figure, ((axis,),) = new_figure(1, 1, size=(7.2, 5.8))
    last = max(summary.step for summary in summaries)
    drawn, left_out = choose(list(dict.fromkeys(summary.method for summary in summaries)))
    for method, look in drawn.items():
        colour = look.colour
        points = np.array(
            [(row["cost"], row["return"]) for row in rows if (row["method"], row["step"]) == (method, last)]
        )
        axis.scatter(points[:, 0], points[:, 1], color=colour, s=7, alpha=0.18, linewidths=0)
        way = [summary for summary in summaries if summary.method == method]
        x, y = [summary.cost.value for summary in way], [summary.returns.value for summary in way]
        axis.plot(x, y, color=colour, linewidth=1.5)
        spans = (_span(way[-1].cost), _span(way[-1].returns))
        axis.errorbar(x[-1], y[-1], xerr=spans[0], yerr=spans[1], color=colour, linewidth=1.5)
        _draw_point(axis, x[-1], y[-1], colour, hollow=x[-1] > way[-1].cost_limit, size=8)
    axis.set(title=f"After {last} adaptation steps  (better: up and left \u2196)", ylabel="return per episode")
    axis.set(xlabel=f"{cost_unit(discount)}  (lines: the way from before adaptation; dots: seeds and tasks)")
    axis.set_xlim(left=0)
    _draw_limit(axis, summaries, drawn, of="x")
    _save(figure, [axis], summaries, drawn, left_out, path)


def _draw_point(axis: Axes, x: float, y: float, colour: str, *, hollow: bool, size: float = 5) -> None:
    inside = "white" if hollow else colour
    axis.plot(x, y, marker="o", markersize=size, color=colour, markerfacecolor=inside, linestyle="none", zorder=3)


def _draw_limit(axis: Axes, summaries: Sequence[Summary], drawn: Mapping[str, Look], *, of: str) -> None:
    """The limit of the cost, which is on the axis `of`, x or y, by name, and the zone beyond it.

    Where an arm costs more than CUT limits, the axis ends there, and the arm is named with its costs at that edge.
    """
    limit = summaries[0].cost_limit
    if not math.isfinite(limit):
        return
    on_y = of == "y"
    curves = {look: [s for s in summaries if s.method == method] for method, look in drawn.items()}
    beyond = {look: curve for look, curve in curves.items() if max(s.cost.value for s in curve) > CUT * limit > 0}
    if beyond:
        (axis.set_ylim if on_y else axis.set_xlim)(0, CUT * limit)
        _name_what_is_cut_off(axis, beyond, on_y=on_y)
    end = max(limit, (axis.get_ylim() if on_y else axis.get_xlim())[1])
    line, span = (axis.axhline, axis.axhspan) if on_y else (axis.axvline, axis.axvspan)
    line(limit, color="tab:red", linestyle="--", linewidth=1.5)
    span(limit, end, color="tab:red", alpha=0.05, linewidth=0)
    (axis.set_ylim if on_y else axis.set_xlim)(0, end if end > 0 else 1)
    name = f"limit {limit:.4g}"
    if on_y:
        axis.annotate(name, (1, limit), (4, 0), **_TEXT, ha="left", va="center", xycoords=("axes fraction", "data"))
    else:
        axis.annotate(
            name, (limit, 0), (3, 4), **_TEXT, ha="left", va="bottom", xycoords=("data", "axes fraction"), rotation=90
        )


_TEXT: dict[str, Any] = {"textcoords": "offset points", "color": "tab:red", "fontsize": 9}


def _name_what_is_cut_off(axis: Axes, curves: Mapping[Look, Sequence[Summary]], *, on_y: bool) -> None:
    """At the edge where an axis ends, the arms that lie beyond it, with their costs from the first step to the last."""
    for i, (look, curve) in enumerate(curves.items()):
        text = f"{look.label}: cost {curve[0].cost.value:.3g} to {curve[-1].cost.value:.3g}"
        axis.text(
            *((0.5, 0.97 - 0.07 * i) if on_y else (0.98, curve[-1].returns.value)),
            f"\u2191 {text}" if on_y else f"{text} \u2192",
            color=look.colour,
            fontsize=9,
            ha="center" if on_y else "right",
            va="top" if on_y else "center",
            transform=axis.transAxes if on_y else axis.get_yaxis_transform(),
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
            zorder=4,
        )


def _save(
    figure: Figure,
    axes: Iterable[Axes],
    summaries: Sequence[Summary],
    drawn: Mapping[str, Look],
    left_out: Mapping[str, Look],
    path: Path,
) -> None:
    """With one legend for all panels, which also names the arms that only the tables have."""
    for axis in axes:
        axis.grid(alpha=0.3)
    handles = explain_points(summaries, drawn)
    width = figure.get_size_inches()[0]
    names = "; ".join(look.label for look in left_out.values())
    note = textwrap.fill(f"not drawn (summary.csv has them): {names}", int(12 * width)) if names else None
    columns = 2 if width < 8 else 3
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, title=note)
    legend.get_title().set_fontsize(8)
    figure.savefig(path, dpi=120)


def explain_points(summaries: Sequence[Summary], drawn: Mapping[str, Look]) -> list[Line2D]:
    """The entries of a legend: the colour of each arm, and what a hollow point is."""
    handles = [Line2D([], [], color=look.colour, marker="o", label=look.label) for look in drawn.values()]
    if math.isfinite(summaries[0].cost_limit):
        label = "hollow: mean cost over the limit"
        handles.append(
            Line2D([], [], color="black", marker="o", markerfacecolor="white", linestyle="none", label=label)
        )
    return handles


def _span(estimate: Estimate) -> list[list[float]] | None:
    """Distances from the value to the ends of its interval, in matplotlib's form for an error bar; None without one."""
    if math.isnan(estimate.low):
        return None
    return [[estimate.value - estimate.low], [estimate.high - estimate.value]]
