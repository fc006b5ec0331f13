"""Draws a short video of what a policy did; MuJoCo draws it without a display."""

import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import mujoco
import numpy as np
from numpy.typing import NDArray

from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.evaluation.traces import Trace

SIZE = 360
"""Width and height of the video, pixels."""
MOST_FRAMES = 100
"""An episode of more steps is not drawn at every step but at every n-th one, because drawing a frame takes a processor
about 40 ms."""
FRAME_MS = 50
"""Time for which a frame is shown, ms."""

Frame = NDArray[np.uint8]


class NoRendererError(Exception):
    """This machine has no OpenGL that MuJoCo can draw with; the message gives the reason."""


def write_video(env: EngineEnv, trace: Trace, path: Path) -> None:
    """Draw the first world of a trace as an animated GIF.

    Robots and all objects that can collide are drawn from the model that was simulated. Hazards, goals and other things
    that are only places are added to the drawing, in Safety-Gymnasium's colours. The camera follows a robot that runs
    away; a green post is its target.

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
    """The frames of a video, (SIZE, SIZE, 3) each; see `write_video`."""
    assert trace.geometry is not None
    model = env.worlds.physics.model
    geometry, length = trace.geometry.numpy(), trace.lengths[0]
    data, scene = mujoco.MjData(model), mujoco.MjvScene(model, maxgeom=model.ngeom + 1000)
    option, navigates = mujoco.MjvOption(), isinstance(env, NavigationEnv)
    camera = _camera_above(trace) if navigates else _camera_beside()
    option.geomgroup[:] = 1
    rectangle, pixels = mujoco.MjrRect(0, 0, SIZE, SIZE), np.empty((SIZE, SIZE, 3), np.uint8)
    with _open_context(model) as context:
        for t in range(0, length + 1, -(-length // MOST_FRAMES)):
            data.geom_xpos[:] = geometry[t, :, :3]
            data.geom_xmat[:] = geometry[t, :, 3:]
            if not navigates:
                camera.lookat[:2] = trace.positions["agent"][t, 0, 0].numpy()
            everything = mujoco.mjtCatBit.mjCAT_ALL.value
            mujoco.mjv_updateScene(model, data, option, None, camera, everything, scene)
            scene.lights[0].ambient[:], scene.lights[0].diffuse[:] = 0.4, 0.6  # the headlight is the model's only light
            if isinstance(env, NavigationEnv):
                _add_places(scene, env, trace, t)
            elif "target" in trace.positions:
                _add_target(scene, trace, t)
            mujoco.mjr_render(rectangle, scene, context)
            mujoco.mjr_readPixels(pixels, None, rectangle, context)
            yield pixels[::-1].copy()  # OpenGL counts rows from below


def _camera_beside() -> Any:
    """A camera that looks at a robot from the side."""
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultCamera(camera)
    camera.lookat[2], camera.distance, camera.azimuth, camera.elevation = 0.5, 4.0, 90.0, -15.0
    return camera


def _camera_above(trace: Trace) -> Any:
    """A camera that looks down from the south and sees everything in the trace, except sigwalls."""
    places = np.concatenate(
        [xy[:, 0].reshape(-1, 2).numpy() for name, xy in trace.positions.items() if name != "sigwalls"]
    )
    low, high = places.min(axis=0), places.max(axis=0)
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultCamera(camera)
    camera.lookat[:] = [*(low + high) / 2, 0.0]
    camera.distance = 1.6 * max(2.0, *(high - low))
    camera.azimuth, camera.elevation = 90.0, -60.0
    return camera


def _add_places(scene: Any, env: NavigationEnv, trace: Trace, t: int) -> None:
    """Add the things that the simulated model leaves out, because nothing collides with them."""
    definition = env.worlds.definition
    for group in definition.groups:
        if (definition.bodies[group.rows] >= 0).all() or scene.ngeom >= scene.maxgeom:
            continue
        alpha = 0.5 if group.name == "goal" else 0.35
        for i, (x, y) in enumerate(trace.positions[group.name][t, 0].tolist()):
            kind, size, height = mujoco.mjtGeom.mjGEOM_CYLINDER, [group.radius, 0.01, 0.0], 0.02
            if group.name == "sigwalls":  # the first two stand across the x axis, the others across the y axis
                edges = [0.05, group.radius] if i < 2 else [group.radius, 0.05]
                kind, size, height = mujoco.mjtGeom.mjGEOM_BOX, [*edges, 0.3], 0.25
            mujoco.mjv_initGeom(
                scene.geoms[scene.ngeom],
                kind,
                np.array(size),
                np.array([x, y, height]),
                np.eye(3).ravel(),
                np.array([*group.settings.color[:3], alpha], np.float32),
            )
            scene.ngeom += 1


def _add_target(scene: Any, trace: Trace, t: int) -> None:
    """Add a post where the target is."""
    x, y = trace.positions["target"][t, 0, 0].tolist()
    size, place, colour = np.array([0.04, 0.4, 0.0]), np.array([x, y, 0.4]), np.array([0, 1, 0, 0.5], np.float32)
    mujoco.mjv_initGeom(
        scene.geoms[scene.ngeom], mujoco.mjtGeom.mjGEOM_CYLINDER, size, place, np.eye(3).ravel(), colour
    )
    scene.ngeom += 1


@contextmanager
def _open_context(model: Any) -> Iterator[Any]:
    """MuJoCo's drawing context, which is freed when the block ends.

    The environment variable MUJOCO_GL chooses the OpenGL library, as for MuJoCo itself. If it is not set, Linux uses
    EGL, which needs no display. This function cannot simply set the variable: after the import of mujoco it has no
    effect, and before the import it would make the import fail on machines without EGL.
    """
    with ExitStack() as stack:
        try:
            canvas = _canvas_class()(SIZE, SIZE)
            stack.callback(canvas.free)
            canvas.make_current()
            context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            stack.callback(context.free)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
        except Exception as error:  # noqa: BLE001  (OpenGL's libraries and drivers raise nearly anything)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NoRendererError(f"no OpenGL to draw with ({reason})") from None
        yield context


def _canvas_class() -> Any:
    if platform.system() == "Linux" and not os.environ.get("MUJOCO_GL"):
        from mujoco.egl import GLContext

        return GLContext
    if not hasattr(mujoco, "GLContext"):
        raise RuntimeError(f"MUJOCO_GL is {os.environ.get('MUJOCO_GL')}")
    return mujoco.GLContext
