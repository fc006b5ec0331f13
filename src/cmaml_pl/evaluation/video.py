"""Draws a short video of what a policy did; MuJoCo draws it without a display."""

from collections.abc import Iterator
from pathlib import Path

import imageio.v2 as imageio

from cmaml_pl.envs.drawing import Frame, open_painter
from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.evaluation.traces import Trace

MOST_FRAMES = 100
"""An episode of more steps is not drawn at every step but at every n-th one, because drawing a frame takes a processor
about 40 ms."""
FRAME_MS = 50
"""Time for which a frame is shown, ms."""


def write_video(env: EngineEnv, trace: Trace, path: Path) -> None:
    """Draw the first world of a trace as an animated GIF, see Painter. The camera sees everything in the trace.

    Args:
        env: any environment with the id of the task; it gives the model and the kinds of things.
        trace: a trace with geometry.
        path: the GIF to write.

    Raises:
        NoRendererError: this machine cannot draw.
    """
    frames = list(draw(env, trace))
    imageio.mimsave(path, frames, duration=FRAME_MS, loop=0)  # type: ignore[arg-type]


def draw(env: EngineEnv, trace: Trace) -> Iterator[Frame]:
    """The frames of a video; see `write_video`."""
    assert trace.geometry is not None
    geometry, length = trace.geometry.numpy(), trace.lengths[0]
    positions = {name: xy[:, 0].numpy() for name, xy in trace.positions.items()}  # (time + 1, things, 2)
    with open_painter(env.worlds) as painter:
        painter.see({name: xy.reshape(-1, 2) for name, xy in positions.items()})
        for t in range(0, length + 1, -(-length // MOST_FRAMES)):
            yield painter.frame(geometry[t], {name: xy[t] for name, xy in positions.items()})
