"""Draws a short video of what policies did, side by side; MuJoCo draws it without a display."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cmaml_pl.envs.drawing import Frame, Painter, open_painter
from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.evaluation.labels import steps_in_words
from cmaml_pl.evaluation.traces import Trace

MOST_FRAMES = 100
"""An episode of more steps is not drawn at every step but at every n-th one, because drawing a frame takes a processor
about 40 ms."""
FRAME_MS = 50
"""Time for which a frame is shown, ms."""
FONT_SIZE = 18
"""Of the words above a frame, pixels."""


def write_video(env: EngineEnv, traces: Sequence[Trace], path: Path) -> None:
    """Draw the first world of each trace, from left to right, as an animated GIF, see Painter.

    The camera sees everything in all traces. Above each stands how often its policy has adapted. An episode that is
    over stays as it ended.

    Args:
        env: any environment with the id of the task; it gives the model and the kinds of things.
        traces: traces of one task, with geometry.
        path: the GIF to write.

    Raises:
        NoRendererError: this machine cannot draw.
    """
    frames = list(draw(env, traces))
    imageio.mimsave(path, frames, duration=FRAME_MS, loop=0)  # type: ignore[arg-type]


def draw(env: EngineEnv, traces: Sequence[Trace]) -> Iterator[Frame]:
    """The frames of a video; see `write_video`."""
    last = max(trace.lengths[0] for trace in traces)
    with open_painter(env.worlds) as painter:
        for trace in traces:
            painter.see({name: xy[:, 0].reshape(-1, 2).numpy() for name, xy in trace.positions.items()})
        for t in range(0, last + 1, -(-last // MOST_FRAMES)):
            yield np.concatenate([_label(_frame(painter, trace, t), trace.step) for trace in traces], axis=1)


def _frame(painter: Painter, trace: Trace, t: int) -> Frame:
    assert trace.geometry is not None
    now = min(t, trace.lengths[0])
    return painter.frame(
        trace.geometry[now].numpy(), {name: xy[now, 0].numpy() for name, xy in trace.positions.items()}
    )


def _label(frame: Frame, step: int) -> Frame:
    """The frame with a line above it that says how often its policy has adapted."""
    words = steps_in_words(step)
    canvas = Image.new("RGB", (frame.shape[1], frame.shape[0] + 2 * FONT_SIZE), "white")
    canvas.paste(Image.fromarray(frame), (0, 2 * FONT_SIZE))
    font = ImageFont.load_default(FONT_SIZE)
    ImageDraw.Draw(canvas).text((canvas.width / 2, FONT_SIZE), words, fill="black", font=font, anchor="mm")
    return np.asarray(canvas)
