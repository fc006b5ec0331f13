"""Reads Safety-Gymnasium's velocity tasks: their models and numbers come from safety_gymnasium and gymnasium."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import mujoco
import numpy as np

from ...errors import UserError
from ..physics import Array, Flags
from ..safety_gymnasium_import import import_safety_gymnasium

ANYTHING = (-np.inf, np.inf)

CLIPPED = {"HopperEnv": 10.0, "Walker2dEnv": 10.0}
"""Class of gymnasium -> size to which it clips observed velocities; the number stands in its method `_get_obs`."""


@dataclass(frozen=True)
class Definition:
    """What the worlds of an id have in common.

    Attributes:
        env_id: Safety-Gymnasium id.
        original: the environment of safety_gymnasium; it draws the starts of episodes.
        model: its MuJoCo model.
        kind: name of its class in gymnasium, e.g. HopperEnv.
        frame_skip: physics steps of an environment step.
        seconds: duration of an environment step, s.
        free: whether the body moves freely in space; otherwise it stays in a plane.
        has_head: whether it is a HalfCheetah, whose head's height can cost.
        hidden_positions: number of the first joint positions, which say where the body is and are not observed.
        velocity_clip: size to which observed velocities are clipped.
        threshold: speed from which on a step costs 1, m/s.
        forward_weight: weight of the forward velocity in the reward.
        control_weight: weight of the squared actions in the reward.
        alive_reward: reward of each step.
        heights: range of the body's height in which an episode goes on, m.
        angles: range of the angle of a body in a plane in which an episode goes on, rad.
        states: range of all other joint positions and velocities in which an episode goes on.
    """

    env_id: str
    original: Any
    model: mujoco.MjModel
    kind: str
    frame_skip: int
    seconds: float
    free: bool
    has_head: bool
    hidden_positions: int
    velocity_clip: float
    threshold: float
    forward_weight: float
    control_weight: float
    alive_reward: float
    heights: tuple[float, float]
    angles: tuple[float, float]
    states: tuple[float, float]

    def alive(self, qpos: Array, qvel: Array) -> Flags:
        """Whether the episodes go on, (W,), at joint positions (W, nq) and velocities (W, nv)."""
        if self.kind == "AntEnv":  # the only one that includes the ends of the range
            finite = np.isfinite(qpos).all(axis=1) & np.isfinite(qvel).all(axis=1)
            return finite & (self.heights[0] <= qpos[:, 2]) & (qpos[:, 2] <= self.heights[1])
        on = _within(qpos[:, 2 if self.free else 1], self.heights)
        if self.angles != ANYTHING:
            on &= _within(qpos[:, 2], self.angles)
        if self.states != ANYTHING:
            on &= _within(np.concatenate([qpos, qvel], axis=1)[:, 2:], self.states).all(axis=1)
        return on


def _within(values: Array, ends: tuple[float, float]) -> Flags:
    return np.asarray(ends[0] < values) & (values < ends[1])


def read_definition(env_id: str) -> Definition:
    """The definition of a Safety-Gymnasium id, e.g. SafetyHopperVelocity-v1.

    Raises:
        UserError: the id is no velocity task, or the installed MuJoCo does not load its model.
    """
    safety_gymnasium = import_safety_gymnasium()
    original = _make(safety_gymnasium, env_id)
    if not hasattr(original, "_velocity_threshold"):
        known = sorted(i for i in safety_gymnasium.utils.registration.safe_registry if i.endswith("Velocity-v1"))
        raise UserError(f"{env_id} is not a velocity task of Safety-Gymnasium; these are: {', '.join(known)}.")
    kind = next(c.__name__ for c in type(original).__mro__ if c.__module__.startswith("gymnasium.envs.mujoco."))
    model = original.model
    free = bool(model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE)
    return Definition(
        env_id=env_id,
        original=original,
        model=model,
        kind=kind,
        frame_skip=original.frame_skip,
        seconds=original.dt,
        free=free,
        has_head=kind == "HalfCheetahEnv",
        hidden_positions=2 if free or kind == "SwimmerEnv" else 1,
        velocity_clip=CLIPPED.get(kind, np.inf),
        threshold=original._velocity_threshold,
        forward_weight=getattr(original, "_forward_reward_weight", 1.0),
        control_weight=original._ctrl_cost_weight,
        alive_reward=getattr(original, "_healthy_reward", 0.0),
        heights=getattr(original, "_healthy_z_range", ANYTHING),
        angles=getattr(original, "_healthy_angle_range", ANYTHING),
        states=getattr(original, "_healthy_state_range", ANYTHING),
    )


def _make(safety_gymnasium: ModuleType, env_id: str) -> Any:
    """The environment of an id, without MuJoCo's warnings about its model, which go to the screen and to a file."""
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return safety_gymnasium.make(env_id).unwrapped
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"MuJoCo {mujoco.__version__} does not load the model of {env_id}: {reason}.") from None
    finally:
        mujoco.set_mju_user_warning(handler)
