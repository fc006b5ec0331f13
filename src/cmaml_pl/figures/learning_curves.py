"""Draws the learning curves: return, cost and multipliers during meta-training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmaml_pl.figures.canvas import PHASES, new_figure


def plot_learning_curves(metrics: Sequence[Mapping[str, float]], path: Path, *, cost_limit: float) -> None:
    """Draw return, cost and multipliers over environment steps.

    Args:
        metrics: lines of a metrics.csv.
        path: the PNG to write.
        cost_limit: d, cost per episode; drawn unless it is infinite.
    """
    figure, (axes,) = new_figure(1, 3, size=(12, 3.6))
    panels = dict(zip(("return", "cost"), axes, strict=False))
    for quantity, axis in panels.items():
        for phase, label, colour in PHASES:
            axis.plot(*_curve(metrics, f"{phase}/{quantity}"), color=colour, alpha=0.45, linewidth=1)
            steps, values = _curve(metrics, f"val/{phase}/{quantity}")
            axis.plot(steps, values, color=colour, marker="o", markersize=3, label=f"{label}, held-out tasks")
        axis.set(title=f"{quantity} per episode", xlabel="environment steps")
    if cost_limit != float("inf"):
        axes[1].axhline(cost_limit, color="tab:red", linestyle="--", linewidth=1, label="cost limit")
    axes[1].set_ylim(bottom=0)
    for name, label in (("eta", "eta (outer update)"), ("lambda/mean", "lambda (inner update)")):
        axes[2].plot(*_curve(metrics, name), label=label)
    axes[2].set(title="multipliers", xlabel="environment steps")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _curve(metrics: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    lines = [line for line in metrics if name in line]
    return [line["throughput/env_steps"] for line in lines], [line[name] for line in lines]
