"""Draws the figures of a meta-test: return and cost along adaptation, return against cost, and paths of the agents."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from cmaml_pl.evaluation.rows import Row
from cmaml_pl.evaluation.statistics import Estimate, Summary
from cmaml_pl.evaluation.traces import Trace
from cmaml_pl.figures.canvas import PHASES, new_figure

THING_COLOURS = {
    "goal": "tab:green",
    "hazards": "tab:red",
    "vases": "tab:cyan",
    "pillars": "tab:purple",
    "gremlins": "tab:pink",
    "buttons": "tab:orange",
    "push_box": "gold",
    "circle": "tab:olive",
    "sigwalls": "tab:red",
}
"""Kind of things, as TaskEnv names it -> colour."""


def plot_finetuning(summaries: Sequence[Summary], path: Path) -> None:
    """Draw return, cost and the share of tasks over their limit along adaptation, with confidence intervals.

    Args:
        summaries: summaries of all arms and steps.
        path: the PNG to write.
    """
    figure, (axes,) = new_figure(1, 3, size=(12, 3.6))
    for method, colour in _colours(summaries).items():
        curve = [summary for summary in summaries if summary.method == method]
        steps = [summary.env_steps for summary in curve]
        for axis, name in zip(axes, ("returns", "cost", "violation_rate"), strict=True):
            estimates: list[Estimate] = [getattr(summary, name) for summary in curve]
            axis.plot(steps, [e.value for e in estimates], color=colour, marker="o", markersize=3, label=method)
            axis.fill_between(
                steps, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.2, linewidth=0
            )
    _draw_limit(axes[1].axhline, summaries)
    for axis, title in zip(axes, ("return per episode", "cost per episode", "share of tasks over limit"), strict=True):
        axis.set(title=title, xlabel="environment steps of adaptation, a task")
    axes[1].set_ylim(bottom=0)
    axes[2].set_ylim(-0.02, 1.02)
    _save(figure, axes, path)


def plot_scatter(rows: Sequence[Row], summaries: Sequence[Summary], path: Path) -> None:
    """Draw return against cost after adaptation: a point for each seed and task, and a line for each arm.

    The line connects the arm's means from before adaptation to the last step.

    Args:
        rows: lines of evaluation.csv.
        summaries: summaries of the same rows.
        path: the PNG to write.
    """
    figure, ((axis,),) = new_figure(1, 1, size=(6.4, 4.8))
    last = max(summary.step for summary in summaries)
    for method, colour in _colours(summaries).items():
        points = np.array(
            [(row["cost"], row["return"]) for row in rows if (row["method"], row["step"]) == (method, last)]
        )
        axis.scatter(points[:, 0], points[:, 1], color=colour, s=8, alpha=0.25, linewidths=0)
        way = [summary for summary in summaries if summary.method == method]
        x, y = [summary.cost.value for summary in way], [summary.returns.value for summary in way]
        axis.plot(x, y, color=colour, linewidth=1)
        end = way[-1]
        spans = (_span(end.cost), _span(end.returns))
        axis.errorbar(x[-1], y[-1], xerr=spans[0], yerr=spans[1], color=colour, marker="o", markersize=7, label=method)
    _draw_limit(axis.axvline, summaries)
    axis.set(title=f"after {last} adaptation steps (lines: the way there)", xlabel="cost per episode")
    axis.set(ylabel="return per episode")
    axis.set_xlim(left=0)
    _save(figure, [axis], path)


def plot_trajectories(traces: Mapping[str, Sequence[Trace]], path: Path) -> None:
    """Draw the agents' paths before and after adaptation from above, with hazards and goals.

    Each row of the figure is an arm, each column is a task.

    Args:
        traces: arm -> traces at two steps for each task; all arms have the same tasks.
        path: the PNG to write.
    """
    tasks = list(dict.fromkeys(trace.task for found in traces.values() for trace in found))
    first, last = (choose(trace.step for found in traces.values() for trace in found) for choose in (min, max))
    figure, grid = new_figure(len(traces), len(tasks), size=(3.2 * len(tasks), 3.3 * len(traces) + 0.4))
    for axes, (method, found) in zip(grid, traces.items(), strict=True):
        for axis, task in zip(axes, tasks, strict=True):
            here = {trace.step: trace for trace in found if trace.task == task}
            draw_things(axis, here[last])
            for step, (_, _, colour) in zip((first, last), PHASES, strict=True):
                _draw_paths(axis, here[step], colour)
            axis.set(aspect="equal", title=f"task {task}", xticks=[], yticks=[])
        axes[0].set_ylabel(method)
    handles = [Line2D([], [], color=colour, label=label) for _, label, colour in PHASES]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(path, dpi=120)


def draw_things(axis: Axes, trace: Trace) -> None:
    """Draw all things except the agent at their places at the start, and a goal at all its places in the episode."""
    for kind, positions in trace.positions.items():
        if kind == "agent":
            continue
        episode = positions[: trace.lengths[0] + 1, 0]  # the first world, (time + 1, things, 2)
        places = episode.flatten(0, 1).unique(dim=0) if kind == "goal" else episode[0]
        colour, radius = THING_COLOURS.get(kind, "tab:gray"), trace.radii.get(kind)
        for i, (x, y) in enumerate(places.tolist()):
            if radius is None:
                axis.plot(x, y, marker="*", color=colour, markersize=9, linestyle="none")
            elif kind == "sigwalls":  # the first two stand across the x axis, the others across the y axis
                dx, dy = (0.0, radius) if i < 2 else (radius, 0.0)
                axis.plot([x - dx, x + dx], [y - dy, y + dy], color=colour)
            else:
                axis.add_patch(Circle((x, y), radius, facecolor=colour, alpha=0.3, linewidth=0))
    axis.autoscale_view()


def _draw_paths(axis: Axes, trace: Trace, colour: str) -> None:
    for world, length in enumerate(trace.lengths):
        path = trace.positions["agent"][: length + 1, world, 0]
        axis.plot(path[:, 0], path[:, 1], color=colour, linewidth=1, alpha=0.8)
        axis.plot(*path[0], color="black", marker=".", markersize=4)


def _save(figure: Figure, axes: Sequence[Axes], path: Path) -> None:
    """Save a figure with one legend for all panels: the legend of the panel with the most entries."""
    for axis in axes:
        axis.grid(alpha=0.3)
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda legend: len(legend[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=120)


def _colours(summaries: Sequence[Summary]) -> dict[str, str]:
    """Arm -> colour, in the order of the arms."""
    names = list(dict.fromkeys(summary.method for summary in summaries))
    return {name: f"C{i % 10}" for i, name in enumerate(names)}


def _draw_limit(line: Callable[..., object], summaries: Sequence[Summary]) -> None:
    limit = summaries[0].cost_limit
    if math.isfinite(limit):
        line(limit, color="tab:red", linestyle="--", linewidth=1, label="cost limit")


def _span(estimate: Estimate) -> list[list[float]] | None:
    """Distances from the value to the ends of its interval, in matplotlib's form for an error bar; None without one."""
    if math.isnan(estimate.low):
        return None
    # max: the percentile interval of a trimmed mean may not contain the mean itself
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]
