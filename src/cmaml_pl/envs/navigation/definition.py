"""Reads the definition of a navigation task from safety_gymnasium itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from ...errors import UserError, did_you_mean
from ..safety_gymnasium_import import import_safety_gymnasium

ARENA_BYTES = 2 * 2**20
"""MuJoCo's scratch memory per world. It is reserved, but occupies memory only as far as it is used.

Safety-Gymnasium's models reserve 450 MiB. The largest use seen was 0.22 MiB (Ant and Doggo on level 2, with all things
awake). If a world runs out of this memory, its episode ends as failed."""
_TOUCHED_KINDS = ("Vases", "Pillars", "Buttons", "Gremlins")
_COSTLY_KINDS = (*_TOUCHED_KINDS, "Hazards", "Sigwalls")

Pose = tuple[float, float, float]
"""x and y, m, and heading, rad."""


class UnsupportedTaskError(UserError):
    """The engine cannot run this task, though Safety-Gymnasium can."""


@dataclass(frozen=True)
class Group:
    """The objects of one kind, such as all hazards of a world.

    Attributes:
        settings: Safety-Gymnasium's own object for the group; sizes, costs and rewards are read from it.
        rows: rows of these objects among all placed things; row 0 is the agent.
        bodies: ids of the objects' bodies, (objects,), for objects that can move; None for objects that stay where they
            are placed.
        touch: columns of the sensor data that count the agent's contacts with each object, (objects,); None if contacts
            do not matter.
    """

    settings: Any
    rows: slice
    bodies: NDArray[np.intp] | None
    touch: NDArray[np.intp] | None

    @property
    def name(self) -> str:
        """Safety-Gymnasium's name of the group, e.g. "hazards"."""
        return str(self.settings.name)

    @property
    def radius(self) -> float:
        """Radius of one object, m; for a box half of its edge, for a wall half of its length."""
        return float(getattr(self.settings, "radius", 0.0) or self.settings.size)


@dataclass(frozen=True)
class Definition:
    """A task as the engine runs it.

    Attributes:
        env_id: Safety-Gymnasium id.
        task: Safety-Gymnasium's own task object. All settings are read from it; it simulates nothing.
        model: the compiled world, without the parts that the physics does not need: cameras, textures, sensors that are
            not read, and objects that neither move nor collide, such as hazards and goals.
        things: names of the things that are placed in a world, in the order of placement; the first is the agent.
        bodies: id in `model` of each thing's body, (things,); -1 for a thing without a body there.
        heights: z coordinate at which each thing is placed, m, (things,).
        groups: the objects by kind, in the order of the observation.
        max_steps: steps of an episode.
    """

    env_id: str
    task: Any
    model: mujoco.MjModel
    things: tuple[str, ...]
    bodies: NDArray[np.intp]
    heights: NDArray[np.float64]
    groups: tuple[Group, ...]
    max_steps: int

    def group(self, name: str) -> Group | None:
        """The group with Safety-Gymnasium's name `name`; None if the task has no such group."""
        return next((group for group in self.groups if group.name == name), None)

    @property
    def costly(self) -> tuple[Group, ...]:
        """The groups for which Safety-Gymnasium has a cost formula, whether or not they cost in this id."""
        return tuple(group for group in self.groups if type(group.settings).__name__ in _COSTLY_KINDS)


def read_definition(env_id: str, *, hidden: Sequence[str] = (), start: Pose | None = None) -> Definition:
    """The definition of a task, read from safety_gymnasium; its world is compiled once.

    Args:
        env_id: Safety-Gymnasium id.
        hidden: names of groups whose lidar is left out of the observation.
        start: pose in which the agent starts, as Safety-Gymnasium's `agent.locations` and `agent.rot`; None for a
            random one.

    Raises:
        UnsupportedTaskError: the task is none of Goal, Button, Push, Circle and Run, or it has settings that only
            Safety-Gymnasium itself can run.
        UserError: a group in `hidden` is not observed by a lidar.
    """
    safety_gymnasium = import_safety_gymnasium()
    builder = safety_gymnasium.make(env_id, disable_env_checker=True).unwrapped
    task: Any = getattr(builder, "task", None)
    reason = _reason_against(task)
    if reason is not None:
        raise UnsupportedTaskError(f"the navigation engine does not run {env_id}: {reason}")
    _hide(env_id, task, hidden)
    if start is not None:
        task.agent.locations, task.agent.rot = [start[:2]], start[2]
    builder.set_seed(0)
    task.reset()  # with any layout, because each world later gets its own
    model = _compile(task)
    things = tuple(task.placements_conf.placements)
    bodies = np.array([_body_of(model, thing) for thing in things])
    heights = np.array([_body_height(task, thing) for thing in things])
    return Definition(
        env_id, task, model, things, bodies, heights, _groups(task, model, things), max_steps=task.num_steps
    )


def _reason_against(task: Any) -> str | None:
    """The reason why the engine cannot run a task; None if it can."""
    from safety_gymnasium import tasks

    kinds = (tasks.GoalLevel0, tasks.ButtonLevel0, tasks.PushLevel0, tasks.CircleLevel0, tasks.RunLevel0)
    if not isinstance(task, kinds):
        return "it is none of the tasks Goal, Button, Push, Circle and Run"
    objects = task._obstacles
    known = ("Goal", "Hazards", "Buttons", "Pillars", "Circle", "Sigwalls", "Vases", "PushBox", "Gremlins")
    conditions = {
        "it observes images": task.observe_vision or not task.observation_flatten,
        "its lidar is not the pseudo lidar": task.lidar_conf.type != "pseudo",
        "its lidar has no range": task.lidar_conf.max_dist is None,
        "it observes a compass": any(getattr(thing, "is_comp_observed", False) for thing in objects),
        "its frame skip is random": task.sim_conf.frameskip_binom_p != 1.0,
        "it adds noise to actions": bool(task.action_noise),
        "it rewards orientation": task.reward_conf.reward_orientation,
        "its layout is not random": not task.mechanism_conf.randomize_layout,
        "it ends with a reached goal": not task.mechanism_conf.continue_goal,
        "vases cost by displacement": any(getattr(thing, "displace_cost", 0) for thing in objects),
        "it has objects of another kind": any(type(thing).__name__ not in known for thing in objects),
        "it is steered by the keyboard": task.debug,
    }
    return next((reason for reason, holds in conditions.items() if holds), None)


def _hide(env_id: str, task: Any, hidden: Sequence[str]) -> None:
    """Leave the lidar of some groups out of the observation."""
    observed = {settings.name: settings for settings in task._obstacles if settings.is_lidar_observed}
    for name in hidden:
        if name not in observed:
            raise UserError(
                f"hidden has {name!r}, but the lidar of {env_id} observes {', '.join(observed)}."
                f"{did_you_mean(name, observed)}"
            )
        observed[name].is_lidar_observed = False
    task.build_observation_space()


def _compile(task: Any) -> mujoco.MjModel:
    """The task's compiled world, without the parts that the physics does not need, and with contact counters.

    The trajectories stay equal to the bit, because the parts left out have no degrees of freedom, collide with nothing
    and are not observed.
    """
    spec = mujoco.MjSpec.from_string(task.world.xml_string)
    for body in spec.worldbody.bodies:
        still = not body.mocap and not list(body.joints)
        if still and all(geom.contype == geom.conaffinity == 0 for geom in body.geoms):
            spec.delete(body)
    for sensor in spec.sensors:
        if sensor.name not in task.obs_info.obs_space_dict.spaces:
            spec.delete(sensor)
    for geom in spec.geoms:
        geom.material = ""
    for unseen in (*spec.textures, *spec.materials, *spec.cameras, *spec.lights):
        spec.delete(unseen)
    for settings in task._obstacles:
        if type(settings).__name__ in _TOUCHED_KINDS:
            for name in _names(settings):
                _add_contact_counter(spec, _body_name(settings, name))
    spec.njmax = spec.nconmax = -1  # unset: these sizes are for old versions of MuJoCo, and `memory` replaces them
    spec.memory = ARENA_BYTES
    return spec.compile()


def _add_contact_counter(spec: Any, geom: str) -> None:
    """Add a sensor that counts the contacts between the agent and a geom."""
    spec.add_sensor(
        name=f"touch_{geom}",
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_XBODY,  # the agent's body with all bodies attached to it
        objname="agent",
        reftype=mujoco.mjtObj.mjOBJ_GEOM,
        refname=geom,
        intprm=[1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1],  # report the count, no reduction, one slot
    )


def _names(settings: Any) -> list[str]:
    """Names of the objects of a kind, as Safety-Gymnasium's placements name them."""
    if not hasattr(settings, "num"):
        return [settings.name]
    return [f"{settings.name[:-1]}{i}" for i in range(settings.num)]


def _body_name(settings: Any, name: str) -> str:
    """Name of an object's body: the object's own name, but for a gremlin that of the object dragged by a mocap body."""
    return f"{name}obj" if settings.type == "mocaps" else name


def _body_of(model: mujoco.MjModel, thing: str) -> int:
    for name in (thing, f"{thing}obj"):
        found = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name)
        if found >= 0:
            return int(found)
    return -1


def _body_height(task: Any, thing: str) -> float:
    world = task.model
    body = _body_of(world, thing)
    return float(world.body_pos[body, 2])


def _groups(task: Any, model: mujoco.MjModel, things: tuple[str, ...]) -> tuple[Group, ...]:
    groups = []
    for settings in task._obstacles:
        names = _names(settings)
        first = things.index(names[0])
        bodies = touch = None
        if settings.type in ("free_geoms", "mocaps"):
            bodies = np.array([model.body(_body_name(settings, name)).id for name in names])
        if type(settings).__name__ in _TOUCHED_KINDS:
            touch = np.array([model.sensor(f"touch_{_body_name(settings, name)}").adr[0] for name in names])
        groups.append(Group(settings, slice(first, first + len(names)), bodies, touch))
    return tuple(groups)
