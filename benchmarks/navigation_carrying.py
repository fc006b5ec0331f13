"""Carries the agents of twins to places where something happens, because random actions rarely lead there.

Twins are a world of the engine and the same world in safety_gymnasium, see navigation_twins.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import mujoco
import numpy as np
from benchmarks.navigation_twins import BOX, COLLIDING, Array, Both, Twins, touched_by


class Carrier:
    """Moves an agent, or in Push the box, to a place where something happens, equally on both sides of the twins.

    With random actions an agent reaches a goal or touches a vase only sometimes, and some rarer things never.

    Args:
        twins: the worlds whose agents are carried.

    Attributes:
        kinds: kinds of places in this task; "goal" comes first and last.
    """

    _TRIES = 5

    def __init__(self, twins: Twins) -> None:
        self._twins = twins
        names = [settings.name for settings in twins.originals[0].task._obstacles]
        goal = ["goal"] if "goal" in names else []
        self.kinds = [*goal, *(name for name in names if name in ("hazards", "sigwalls", *COLLIDING)), *goal]
        self._due: dict[int, tuple[str, int]] = {}  # world -> (kind of place, tries left)

    def carry_all(self, kind: str | None) -> None:
        """Before a step: carry the agents of all worlds to a thing of `kind`.

        With None, carry only those agents that have not reached the place of an earlier call.
        """
        if kind is not None:
            self._due = dict.fromkeys(range(len(self._twins.originals)), (kind, self._TRIES))
        for world, (due, tries) in list(self._due.items()):
            # a light thing that is touched from the side may have moved away by the end of the step; touched from above
            # it stays
            self.carry(world, due, above=tries < self._TRIES - 1)
            self._due[world] = (due, tries - 1)

    def see(self, both: Both, touched: Sequence[set[str]]) -> None:
        """After a step: note which agents have reached their place, so that they are not carried there again."""
        for world, (due, tries) in list(self._due.items()):
            there = both.reached[world] if due == "goal" else due not in COLLIDING or due in touched[world]
            if there or tries == 0:
                del self._due[world]

    def carry(self, world: int, kind: str, *, above: bool = False) -> bool:
        """Carry the agent of a world to a thing of `kind`, or (`above`) onto it; False if there is no free place."""
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
    """Names of the geoms of the thing of `kind` that an agent is carried to.

    For "goal" it is the goal button, for "buttons" another button, and for other kinds their first thing.
    """
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
    """Joint positions qpos with the body at one of the targets, if it touches nothing but the floor there."""
    scratch = mujoco.MjData(task.model)
    for target in targets:
        qpos = _moved(task, body, target)
        if not touched_by(task.model, _collide(task.model, scratch, qpos), body):
            yield qpos


def _touching_states(task: Any, things: set[str]) -> Iterator[Array]:
    """Joint positions qpos with the agent slightly inside a thing, and inside nothing else.

    The agent is moved nearer until the two touch, and then a little further, because a mere touch may be over at the
    end of a step.
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
    """Joint positions qpos with the agent on top of a thing: the agent is lowered until the two touch."""
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
    """Joint positions qpos, (nq,), with the body's origin moved above the point `target`."""
    model, qpos = task.model, task.data.qpos.copy()
    address = model.jnt_qposadr[model.body(body).jntadr[0]]
    if not _is_free(model, body):  # Point has two slide joints along the axes of its first pose
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.body(body).quat)
        target = rotation.reshape(3, 3)[:2, :2].T @ (target - model.body(body).pos[:2])
    qpos[address : address + 2] = target
    return np.asarray(qpos)
