"""Draws worlds of the engines; MuJoCo draws them without a display."""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from .navigation.definition import Definition
from .navigation.worlds import NavigationWorlds
from .physics import Array
from .worlds import BatchedWorlds

SIZE = 360
"""Width and height of a frame, pixels."""

Frame = NDArray[np.uint8]
Positions = Mapping[str, NDArray[np.floating[Any]]]
"""Name of the agent, of a kind of things or of a target -> its positions in one world, m, (things, 2)."""


class NoRendererError(Exception):
    """This machine has no OpenGL that MuJoCo can draw with; the message gives the reason."""


class Painter:
    """Draws frames of the worlds of one id; `open_painter` makes it.

    Robots and all objects that can collide are drawn from the model that is simulated. Hazards, goals and other things
    that are only places are added to the drawing, in Safety-Gymnasium's colours. In navigation tasks the camera looks
    down from the south, and sees everything that it has been told to; elsewhere it stands beside the robot and follows
    it, and a green post is its target.

    Args:
        worlds: worlds of the id; they give the model and the kinds of things.
        canvas: OpenGL's context.
        context: MuJoCo's drawing context, on the canvas.
    """

    def __init__(self, worlds: BatchedWorlds, canvas: Any, context: Any) -> None:
        self._model, self._canvas, self._context = worlds.physics.model, canvas, context
        self._definition = worlds.definition if isinstance(worlds, NavigationWorlds) else None
        self._data = mujoco.MjData(self._model)
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 1000)
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._option.geomgroup[:] = 1
        mujoco.mjv_defaultCamera(self._camera)
        if self._definition is None:
            self._camera.lookat[2], self._camera.distance = 0.5, 4.0
        self._camera.azimuth, self._camera.elevation = 90.0, -60.0 if self._definition else -15.0
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)

    def see(self, positions: Positions) -> None:
        """Let the camera above a navigation task see these positions as well, except sigwalls."""
        places = np.concatenate([xy for name, xy in positions.items() if name != "sigwalls"])
        self._low = np.minimum(self._low, places.min(axis=0))
        self._high = np.maximum(self._high, places.max(axis=0))

    def frame(self, geometry: NDArray[np.floating[Any]], positions: Positions) -> Frame:
        """A frame, (SIZE, SIZE, 3), of a world with this geometry, see TaskEnv.geometry, and these positions."""
        data, scene, camera = self._data, self._scene, self._camera
        data.geom_xpos[:], data.geom_xmat[:] = geometry[:, :3], geometry[:, 3:]
        if self._definition is None:
            camera.lookat[:2] = positions["agent"][0]
        else:
            self.see(positions)
            camera.lookat[:2] = (self._low + self._high) / 2
            camera.distance = 1.6 * max(2.0, *(self._high - self._low))
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, everything, scene)
        scene.lights[0].ambient[:], scene.lights[0].diffuse[:] = 0.4, 0.6  # the headlight is the model's only light
        if self._definition is not None:
            _add_places(scene, self._definition, positions)
        elif "target" in positions:
            _add_target(scene, positions["target"][0])
        self._canvas.make_current()  # another painter may have drawn meanwhile
        rectangle, pixels = mujoco.MjrRect(0, 0, SIZE, SIZE), np.empty((SIZE, SIZE, 3), np.uint8)
        mujoco.mjr_render(rectangle, scene, self._context)
        mujoco.mjr_readPixels(pixels, None, rectangle, self._context)
        return pixels[::-1].copy()  # OpenGL counts rows from below


def _add_places(scene: Any, definition: Definition, positions: Positions) -> None:
    """Add the things that the simulated model leaves out, because nothing collides with them."""
    for group in definition.groups:
        if (definition.bodies[group.rows] >= 0).all() or scene.ngeom >= scene.maxgeom:
            continue
        alpha = 0.5 if group.name == "goal" else 0.35
        for i, (x, y) in enumerate(positions[group.name].tolist()):
            kind, size, height = mujoco.mjtGeom.mjGEOM_CYLINDER, [group.radius, 0.01, 0.0], 0.02
            if group.name == "sigwalls":  # the first two stand across the x axis, the others across the y axis
                edges = [0.05, group.radius] if i < 2 else [group.radius, 0.05]
                kind, size, height = mujoco.mjtGeom.mjGEOM_BOX, [*edges, 0.3], 0.25
            _add_geom(scene, kind, size, [x, y, height], [*group.settings.color[:3], alpha])


def _add_target(scene: Any, place: Array) -> None:
    """Add a post where the target is."""
    x, y = place.tolist()
    _add_geom(scene, mujoco.mjtGeom.mjGEOM_CYLINDER, [0.04, 0.4, 0.0], [x, y, 0.4], [0, 1, 0, 0.5])


def _add_geom(scene: Any, kind: Any, size: list[float], place: list[float], colour: list[float]) -> None:
    geom, rotation = scene.geoms[scene.ngeom], np.eye(3).ravel()
    mujoco.mjv_initGeom(geom, kind, np.array(size), np.array(place), rotation, np.array(colour, np.float32))
    scene.ngeom += 1


@contextmanager
def open_painter(worlds: BatchedWorlds) -> Iterator[Painter]:
    """A painter of these worlds; its drawing context is freed when the block ends.

    The environment variable MUJOCO_GL chooses the OpenGL library, as for MuJoCo itself. If it is not set, Linux uses
    EGL, which needs no display. This function cannot simply set the variable: after the import of mujoco it has no
    effect, and before the import it would make the import fail on machines without EGL.

    Raises:
        NoRendererError: this machine cannot draw.
    """
    with ExitStack() as stack:
        try:
            canvas = _canvas_class()(SIZE, SIZE)
            stack.callback(canvas.free)
            canvas.make_current()
            context = mujoco.MjrContext(worlds.physics.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            stack.callback(context.free)
            stack.callback(canvas.make_current)  # called before the two above, which free what is current
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, context)
        except Exception as error:  # noqa: BLE001  (OpenGL's libraries and drivers raise nearly anything)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NoRendererError(f"no OpenGL to draw with ({reason})") from None
        yield Painter(worlds, canvas, context)


def _canvas_class() -> Any:
    if platform.system() == "Linux" and not os.environ.get("MUJOCO_GL"):
        from mujoco.egl import GLContext

        return GLContext
    if not hasattr(mujoco, "GLContext"):
        raise RuntimeError(f"MUJOCO_GL is {os.environ.get('MUJOCO_GL')}")
    return mujoco.GLContext
