"""Draws the paths of the agents before and after adaptation: from above, or along time if they move on a line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.transforms import Bbox
from torch import Tensor

from cmaml_pl.evaluation.figures import PANELS, draw_panel, explain_points
from cmaml_pl.evaluation.labels import choose, find_looks
from cmaml_pl.evaluation.meta_test import RANDOM
from cmaml_pl.evaluation.rows import Row
from cmaml_pl.evaluation.statistics import Summary
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

SHOWN = 3
"""Number of tasks in the figure that shows adaptation at a glance."""


def plot_adaptation(
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    traces: Mapping[str, Sequence[Trace]],
    path: Path,
    *,
    discount: float = 1.0,
) -> None:
    """Draw adaptation at a glance: paths of one arm in a few tasks, and return and cost of all arms along adaptation.

    The arm is the trained one that a figure needs most: C-MAML, where it is among the arms. The paths are of its first
    seed.

    Args:
        rows: lines of evaluation.csv.
        summaries: summaries of the same rows.
        traces: arm -> traces at two steps for each task.
        path: the PNG to write.
        discount: of the costs that the limits are on.
    """
    drawn, _ = choose(list(dict.fromkeys(summary.method for summary in summaries)))
    method = next((name for name in drawn if name.split()[0] != RANDOM), next(iter(drawn)))
    found, own = traces[method], [row for row in rows if row["method"] == method]
    tasks, steps = (sorted({getattr(trace, name) for trace in found}) for name in ("task", "step"))
    tasks = tasks[:SHOWN]
    figure, grid = new_figure(2, len(tasks) + 1, size=(2.6 * len(tasks) + 4.6, 5.6), widths=[2.6] * len(tasks) + [4.6])
    for axes, step, (_, label, colour) in zip(grid, (steps[0], steps[-1]), PHASES, strict=True):
        for axis, task in zip(axes, tasks, strict=False):
            trace = next(trace for trace in found if (trace.task, trace.step) == (task, step))
            row = next(row for row in own if (row["task"], row["step"]) == (task, step))
            draw_things(axis, trace)
            _draw_paths(axis, trace, colour)
            axis.set_title(f"return {row['return']:.2f}, cost {row['cost']:.1f}", fontsize=9)
        place = "\nalong x, m" if found[0].on_a_line else ""
        axes[0].set_ylabel((label if step == 0 else f"{label}, {step} steps") + place)
    for column in grid.T[: len(tasks)]:
        _same_view(column, square=not found[0].on_a_line)
    for axis, panel in zip(grid[:, -1], PANELS, strict=False):
        draw_panel(axis, panel, summaries, drawn, discount=discount)
        axis.grid(alpha=0.3)
    handles = explain_points(summaries, drawn)
    handles += _explain_things(found[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(path, dpi=120)


def plot_trajectories(traces: Mapping[str, Sequence[Trace]], path: Path) -> None:
    """Draw the agents' paths before and after adaptation, with hazards, goals and targets; see `_path`.

    Each row of the figure is an arm, each column is a task.

    Args:
        traces: arm -> traces at two steps for each task; all arms have the same tasks.
        path: the PNG to write.
    """
    tasks = list(dict.fromkeys(trace.task for found in traces.values() for trace in found))
    first, last = (choose(trace.step for found in traces.values() for trace in found) for choose in (min, max))
    looks = find_looks(list(traces))
    figure, grid = new_figure(len(traces), len(tasks), size=(3.2 * len(tasks), 3.3 * len(traces) + 0.4))
    for axes, (method, found) in zip(grid, traces.items(), strict=True):
        for axis, task in zip(axes, tasks, strict=True):
            here = {trace.step: trace for trace in found if trace.task == task}
            draw_things(axis, here[last])
            for step, (_, _, colour) in zip((first, last), PHASES, strict=True):
                _draw_paths(axis, here[step], colour)
            axis.set_title(f"task {task}")
            _same_view([axis], square=not here[last].on_a_line)
        place = "\nalong x, m" if found[0].on_a_line else ""
        axes[0].set_ylabel(looks[method].label + place, color=looks[method].colour)
    handles = [Line2D([], [], color=colour, label=label) for _, label, colour in PHASES]
    handles += _explain_things(next(iter(traces.values()))[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=120)


def _explain_things(trace: Trace) -> list[Line2D]:
    """The entries of a legend for the things in a trace, the agent aside."""
    kinds = [kind for kind in trace.positions if kind != "agent"]
    return [Line2D([], [], label=kind.replace("_", " "), **_look(trace, kind)) for kind in kinds]


def _look(trace: Trace, kind: str) -> dict[str, Any]:
    """How things are drawn: as lines, as discs of their radius, or as stars, if they have none."""
    colour = THING_COLOURS.get(kind, "tab:gray")
    if kind == "target":
        return {"color": THING_COLOURS["goal"], "linestyle": "--"}
    if kind == "sigwalls" and kind in trace.radii:
        return {"color": colour}
    if kind in trace.radii:
        disc = {"marker": "o", "markersize": 10, "markeredgewidth": 0, "alpha": 0.3}
        return {"color": colour, "linestyle": "none", **disc}
    return {"color": colour, "linestyle": "none", "marker": "*", "markersize": 9}


def draw_things(axis: Axes, trace: Trace) -> None:
    """Draw all things except the agent at their places at the start, and goals and targets at all of an episode."""
    for kind, positions in trace.positions.items():
        if kind == "agent":
            continue
        if kind == "target":
            path = _path(trace, positions[: trace.lengths[0] + 1, 0, 0])
            axis.plot(*path, **_look(trace, kind))
            continue
        episode = positions[: trace.lengths[0] + 1, 0]  # the first world, (time + 1, things, 2)
        places = episode.flatten(0, 1).unique(dim=0) if kind == "goal" else episode[0]
        look, radius = _look(trace, kind), trace.radii.get(kind)
        for i, (x, y) in enumerate(places.tolist()):
            if radius is None:
                axis.plot(x, y, **look)
            elif kind == "sigwalls":  # the first two stand across the x axis, the others across the y axis
                dx, dy = (0.0, radius) if i < 2 else (radius, 0.0)
                axis.plot([x - dx, x + dx], [y - dy, y + dy], **look)
            else:
                axis.add_patch(Circle((x, y), radius, facecolor=look["color"], alpha=look["alpha"], linewidth=0))
    axis.autoscale_view()


def _path(trace: Trace, positions: Tensor) -> tuple[Tensor, Tensor]:
    """What is drawn of positions (time, 2): x and y or, for agents that move along x only, the time step and x."""
    if trace.on_a_line:
        return torch.arange(len(positions)), positions[:, 0]
    return positions[:, 0], positions[:, 1]


def _same_view(axes: Sequence[Axes], *, square: bool) -> None:
    """Let all axes show the same part of the plane, a square if it is seen from above, with room for all they show."""
    whole = Bbox.union([axis.viewLim for axis in axes])
    if not square:
        for axis in axes:
            axis.set(xlim=whole.intervalx, ylim=whole.intervaly)
            axis.tick_params(labelsize=7)
        axes[-1].set_xlabel("time step", fontsize=8)
        return
    half = max(whole.width, whole.height) / 2
    x, y = (sum(ends) / 2 for ends in (whole.intervalx, whole.intervaly))
    for axis in axes:
        axis.set(xlim=(x - half, x + half), ylim=(y - half, y + half), aspect="equal", xticks=[], yticks=[])


def _draw_paths(axis: Axes, trace: Trace, colour: str) -> None:
    for world, length in enumerate(trace.lengths):
        x, y = _path(trace, trace.positions["agent"][: length + 1, world, 0])
        axis.plot(x, y, color=colour, linewidth=1, alpha=0.8)
        axis.plot(x[0], y[0], color="black", marker=".", markersize=4)
