"""Shared by all figures: a canvas that needs no display, and labels and colours of the phases of adaptation."""

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

PHASES = (("pre", "before adaptation", "tab:gray"), ("post", "after adaptation", "tab:blue"))
"""Prefix of the metrics, label and colour, for the policy before it adapts and after it has adapted."""


def new_figure(
    rows: int, columns: int, *, size: tuple[float, float], widths: Sequence[float] | None = None
) -> tuple[Figure, NDArray[Any]]:
    """A figure of `size` (width, height), in inches, and its axes, (rows, columns); `widths` are those of columns."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    return figure, figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
