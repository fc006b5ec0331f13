"""The physics of many worlds; MuJoCo's own batch steps them in threads."""

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from ..physics import Array, BatchPhysics, Worlds
from .definition import Definition

_SLEEP_TOLERANCE = 1e-6
"""Speed below which a thing may fall asleep, in MuJoCo's unit. A vase costs from 1e-4 m/s on, which is also MuJoCo's
default: with it, vases that creep after a push stopped costing too early (docs/performance.md). 1e-6 is as fast."""

_SETTLING_STEPS = 1000
"""Physics steps after which nothing moves any more; Safety-Gymnasium's vases fall below 1e-6 m/s after about 100."""


class Physics(BatchPhysics):
    """The MuJoCo simulations of `num_worlds` worlds, which differ in layout and physical parameters.

    A sixth of the work is saved by continuing from the last mj_forward, see docs/performance.md.

    Args:
        definition: the task.
        num_worlds: W, number of worlds.
        num_threads: number of threads, including that of the caller.
        sleeping: whether things at rest may sleep (MuJoCo's mjENBL_SLEEP).

    Attributes:
        agent_position: positions of the agents, m, (W, 3).
        agent_rotation: rotations from the agents' frames to the world's frame, (W, 3, 3).
        body_positions: positions of all bodies, m, (W, bodies, 3).
        sensors: sensor data, (W, numbers).
    """

    def __init__(self, definition: Definition, num_worlds: int, *, num_threads: int, sleeping: bool) -> None:
        self._definition = definition
        model = definition.model
        # sleeping helps only if there are things that lie still; gremlins are always driven, and agents have motors
        self._mocaps = [group.settings for group in definition.groups if group.settings.type == "mocaps"]
        if sleeping and not self._mocaps and any(group.bodies is not None for group in definition.groups):
            model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
            model.opt.sleep_tolerance = _SLEEP_TOLERANCE
        super().__init__(
            model,
            num_worlds,
            num_threads=num_threads,
            frameskip=int(definition.task.sim_conf.frameskip_binom_n),
            agent=model.body("agent").id,
            persistent=True,
        )
        self.body_positions: Array = self._batch.bind("xpos")
        self.agent_position = self.body_positions[:, self._agent]
        self.agent_rotation: Array = self._batch.bind("xmat").reshape(num_worlds, model.nbody, 3, 3)[:, self._agent]
        self.sensors: Array = self._batch.bind("sensordata")
        self._expand_layout()
        vases = definition.group("vases")
        if model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP and vases is not None and vases.bodies is not None:
            self._body_pos[:, vases.bodies, 2] = _resting_heights(model, vases.bodies)

    def _expand_layout(self) -> None:
        """Give each world its own copy of the model fields that depend on the layout."""
        model = self.model
        self._body_pos, self._body_quat = self._batch.expand("body_pos"), self._batch.expand("body_quat")
        self._qpos0 = self._batch.expand("qpos0")
        self._weld = self._batch.expand("eq_data") if model.neq else None
        placed = np.flatnonzero(self._definition.bodies >= 0)
        self._placed = placed[np.argsort(self._definition.bodies[placed])]
        self._placed_bodies = self._definition.bodies[self._placed]
        joints = model.body_jntadr[self._placed_bodies]
        free = (joints >= 0) & (model.jnt_type[joints] == mujoco.mjtJoint.mjJNT_FREE)
        self._free_bodies = self._placed_bodies[free]
        self._free_qpos = model.jnt_qposadr[joints[free]]

    def place(self, worlds: Worlds, positions: Array, rotations: Array, factors: Array) -> None:
        """Start the given worlds from new layouts, at time 0.

        mj_setConst computes anew what MuJoCo's compiler derives from a layout; the results are equal to the bit.

        Args:
            worlds: indices of n worlds.
            positions: positions of all things, m, (n, things, 2).
            rotations: rotations of all things about the vertical axis, rad, (n, things).
            factors: factors of the agents' masses and inertias, joint damping and actuator gears, (n, 3).
        """
        self.scale(worlds, factors)
        rows, bodies = worlds[:, None], self._placed_bodies
        self._body_pos[rows, bodies, :2] = positions[:, self._placed]
        self._body_quat[rows, bodies] = _quaternions(rotations[:, self._placed])
        for address, body in zip(self._free_qpos, self._free_bodies, strict=True):
            self._qpos0[worlds, address : address + 3] = self._body_pos[worlds, body]
            self._qpos0[worlds, address + 3 : address + 7] = self._body_quat[worlds, body]
        if self._weld is not None:
            self._weld[worlds, :, 3:10] = 0.0  # zero lets mj_setConst compute the relative pose of the new layout
        self._batch.set_const(worlds)
        self.restart(worlds)

    def restart(self, worlds: Worlds) -> None:
        """Put everything in the given worlds back to where it was placed, at time 0."""
        self._batch.reset(worlds)

    def set_joints(self, worlds: Worlds, qpos: Array) -> None:
        """Set the joint positions of n given worlds to `qpos`, (n, nq)."""
        self._batch.qpos[worlds] = qpos
        self._batch.forward(worlds)

    def joints(self, world: int) -> Array:
        """A copy of the joint positions qpos of a world, (nq,)."""
        qpos: Array = self._batch.qpos[world].copy()
        return qpos

    def _advance(self) -> None:
        """See BatchPhysics; what is derived is that of the new state."""
        if self._mocaps:
            mocap = int(mujoco.mjtState.mjSTATE_MOCAP_POS)
            self._batch.rollout(self.frameskip, self._mocap_positions(), control_spec=mocap, record=())
            self._batch.forward()
        else:
            self._batch.step(nstep=self.frameskip, stage=mujoco.mjtStage.mjSTAGE_ACC.value)

    def _mocap_positions(self) -> Array:
        """Positions, m, to which Gremlins.move drags gremlins in each physics step, (W, frameskip, 3 * mocaps)."""
        time = self._batch.time[:, None].copy()
        positions = []
        for _ in range(self.frameskip):
            step = []
            for settings in self._mocaps:
                circle = [np.sin(time) * settings.travel, np.cos(time) * settings.travel]
                step += [*circle, np.full_like(time, settings.size)] * settings.num
            positions.append(np.concatenate(step, axis=1))
            time = time + self.model.opt.timestep
        return np.stack(positions, axis=1)

    def agent_velocity(self) -> Array:
        """Linear velocity of the agents' origins, (W, 3), m/s."""
        twist = self._batch.bind("cvel")[:, self._agent]  # rotation and translation at the centre of mass
        arm = self.agent_position - self._batch.bind("subtree_com")[:, self._agent]
        return np.asarray(twist[:, 3:] + np.cross(twist[:, :3], arm))

    def speeds(self, bodies: Sequence[int] | NDArray[np.intp]) -> Array:
        """Speed of bodies that move freely, (W, bodies), m/s."""
        model = self.model
        dofs = model.body_dofadr[np.asarray(bodies)]
        velocity = self._batch.qvel[:, dofs[:, None] + np.arange(3)]
        speed: Array = np.sqrt(np.einsum("...i,...i->...", velocity, velocity))
        return speed


def _resting_heights(model: mujoco.MjModel, bodies: NDArray[np.intp]) -> Array:
    """Heights at which vases come to rest, m, (bodies,): less than 0.1 mm below where Safety-Gymnasium puts them.

    Vases that start higher sink and stay awake for eight environment steps; such a step takes ten times as long as one
    in which they sleep. No observation, reward or cost depends on the height of vases. (The height of the box in Push
    does matter.)
    """
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, _SETTLING_STEPS)
    heights: Array = data.xpos[bodies, 2].copy()
    return heights


def _quaternions(angles: Array) -> Array:
    """Quaternions of rotations about the vertical axis, (..., 4), normalised as by MuJoCo's compiler; angles in rad."""
    zero = np.zeros_like(angles)
    quaternions = np.stack([np.cos(angles / 2), zero, zero, np.sin(angles / 2)], axis=-1)
    for quaternion in quaternions.reshape(-1, 4):
        mujoco.mju_normalize4(quaternion)
    return quaternions
