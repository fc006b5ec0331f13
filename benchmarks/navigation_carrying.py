"""Agents of twins are carried to where something happens, which random actions find now and then only."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mujoco
import numpy as np
from benchmarks.navigation_twins import BOX, COLLIDING, Array, Both, Twins, touched_by


class Carrier:
    """Takes an agent, or in Push the box, to where something happens, by the same write on both sides.

    Random actions reach a goal or touch a vase now and then only, and never some of the rarer things.

    Args:
        twins: whose agents are carried.

    Attributes:
        kinds: of the places in this task; "goal" comes first and last.
    """

    _TRIES = 5

    def __init__(self, twins: Twins) -> None:
        self._twins = twins
        names = [settings.name for settings in twins.originals[0].task._obstacles]
        goal = ["goal"] if "goal" in names else []
        self.kinds = [*goal, *(name for name in names if name in ("hazards", "sigwalls", *COLLIDING)), *goal]
        self._due: dict[int, tuple[str, int]] = {}  # world -> kind, tries left

    def carry_all(self, kind: str | None) -> None:
        """Before a step: take the agents of all worlds to a thing of `kind`, or where they have not got to yet."""
        if kind is not None:
            self._due = dict.fromkeys(range(len(self._twins.originals)), (kind, self._TRIES))
        for world, (due, tries) in list(self._due.items()):
            # a light thing that is touched from the side may be gone at the end of a step; from above it stays
            self.carry(world, due, above=tries < self._TRIES - 1)
            self._due[world] = (due, tries - 1)

    def see(self, both: Both, touched: Sequence[set[str]]) -> None:
        """After a step: who has got there need not be taken there again."""
        for world, (due, tries) in list(self._due.items()):
            there = both.reached[world] if due == "goal" else due not in COLLIDING or due in touched[world]
            if there or tries == 0:
                del self._due[world]

    def carry(self, world: int, kind: str, *, above: bool = False) -> bool:
        """Take the agent of a world to a thing of `kind`, or onto it; False where there is no free place to put it."""
        qpos = next(self._states(world, kind, above), None)
        if qpos is not None:
            self._twins.write_joints(world, qpos)
        return qpos is not None

    def _states(self, world: int, kind: str, above: bool) -> Iterator[Array]:
        task = self._twins.originals[world].task
        if kind == "sigwalls":
            beyond = np.array([task.sigwalls.locate_factor + 0.2, 0.3])
            yield from _clear_states(task, "agent", [beyond])
        elif kind == "hazards":
            yield from _clear_states(task, "agent", _around(task.hazards.pos[0][:2], task.hazards.size))
        elif kind == "goal" and not hasattr(task, "buttons"):
            body = "push_box" if hasattr(task, "push_box") else "agent"
            yield from _clear_states(task, body, _around(task.goal.pos[:2], task.goal.size))
        else:
            onto = _onto_states if above and _is_free(task.model, "agent") else _touching_states
            yield from onto(task, _geoms(task, kind))


def _geoms(task: Any, kind: str) -> set[str]:
    """Names of the geoms of the thing that an agent is to touch: the goal's button, another button, or the first."""
    if kind == "goal":
        return {f"button{task.buttons.goal_button}"}
    if kind == "buttons":
        return {f"button{(task.buttons.goal_button + 1) % task.buttons.num}"}
    return {"push_box": BOX, "gremlins": {"gremlin0obj"}}.get(kind, {f"{kind[:-1]}0"})


def _around(centre: Array, radius: float) -> list[Array]:
    """Points inside a circle, its centre first."""
    angles = np.arange(8) * np.pi / 4
    return [centre, *(centre + 0.6 * radius * np.array([np.cos(a), np.sin(a)]) for a in angles)]


def _clear_states(task: Any, body: str, targets: Iterable[Array]) -> Iterator[Array]:
    """Joints with the body at a target where it touches nothing but the floor."""
    scratch = mujoco.MjData(task.model)
    for target in targets:
        qpos = _moved(task, body, target)
        if not touched_by(task.model, _collide(task.model, scratch, qpos), body):
            yield qpos


def _touching_states(task: Any, things: set[str]) -> Iterator[Array]:
    """Joints with the agent a little in a thing, and in nothing else: it comes nearer until they touch.

    A little: of a mere touch nothing may be left at the end of a step.
    """
    scratch = mujoco.MjData(task.model)
    centre = task.data.geom(max(things)).xpos[:2].copy()
    for angle in np.arange(8) * np.pi / 4:
        direction = np.array([np.cos(angle), np.sin(angle)])

        def touched_at(distance: float, direction: Array = direction) -> tuple[Array, set[str]]:
            qpos = _moved(task, "agent", centre + distance * direction)
            return qpos, touched_by(task.model, _collide(task.model, scratch, qpos), "agent")

        outside = next((d / 100 for d in range(90, 5, -1) if touched_at(d / 100)[1]), 0.0)
        qpos, touched = touched_at(outside - 0.03)
        if touched and touched <= things:
            yield qpos


def _onto_states(task: Any, things: set[str]) -> Iterator[Array]:
    """Joints with the agent on top of a thing: it comes down until they touch."""
    scratch = mujoco.MjData(task.model)
    qpos = _moved(task, "agent", task.data.geom(max(things)).xpos[:2])
    height = task.model.jnt_qposadr[task.model.body("agent").jntadr[0]] + 2
    for z in np.arange(1.5, 0.0, -0.01):
        qpos[height] = z
        touched = touched_by(task.model, _collide(task.model, scratch, qpos), "agent")
        if touched:
            if touched <= things:
                yield qpos
            return


def _is_free(model: Any, body: str) -> bool:
    return bool(model.jnt_type[model.body(body).jntadr[0]] == mujoco.mjtJoint.mjJNT_FREE)


def _collide(model: Any, data: Any, qpos: Array) -> Any:
    data.qpos[:] = qpos
    mujoco.mj_fwdPosition(model, data)
    return data


def _moved(task: Any, body: str, target: Array) -> Array:
    """Joints with the body's origin above a point, (nq,)."""
    model, qpos = task.model, task.data.qpos.copy()
    address = model.jnt_qposadr[model.body(body).jntadr[0]]
    if not _is_free(model, body):  # Point: two slides along the axes that it started with
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.body(body).quat)
        target = rotation.reshape(3, 3)[:2, :2].T @ (target - model.body(body).pos[:2])
    qpos[address : address + 2] = target
    return np.asarray(qpos)
