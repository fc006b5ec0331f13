"""The physics of many worlds of one MuJoCo model; MuJoCo's own batch steps them in threads."""

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError
from numpy.typing import NDArray

Array = NDArray[np.float64]
Worlds = NDArray[np.intp]
"""Indices of some worlds, ascending and unique."""
Flags = NDArray[np.bool_]

_FATAL = [
    int(warning)
    for warning in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
        mujoco.mjtWarning.mjWARN_CONTACTFULL,
        mujoco.mjtWarning.mjWARN_CNSTRFULL,
    )
]
"""MuJoCo's warnings after which a world's numbers are meaningless: it diverged, or ran out of memory for contacts."""


class BatchPhysics:
    """The MuJoCo simulations of `num_worlds` worlds of one model, which may differ in physical parameters.

    mujoco.batch (since MuJoCo 3.17) is the fastest way that was found to step them: it uses native threads and runs no
    Python between worlds. Its results are equal to the bit to those of a loop with one MjData per world.

    Args:
        model: the model.
        num_worlds: W, number of worlds.
        num_threads: number of threads, including that of the caller.
        frameskip: physics steps of an environment step.
        agent: root body of the agent.
        persistent: whether each world keeps an MjData of its own; sleeping needs it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        *,
        num_threads: int,
        frameskip: int,
        agent: int,
        persistent: bool = False,
    ) -> None:
        self.model, self.frameskip, self._agent = model, frameskip, agent
        self._batch = Batch(model, num_worlds, num_threads, persistent=persistent)
        self._scaled: list[tuple[Array, NDArray[np.intp], Array, int]] = []

    def step(self, actions: Array) -> Flags:
        """Step all worlds once; the actions are held for all physics steps of this environment step.

        Args:
            actions: actions, (W, A); MuJoCo cuts them to the actuators' ranges.

        Returns:
            Whether the physics of each world failed, bool, (W,).
        """
        self._batch.ctrl = actions
        failed = np.zeros(len(actions), np.bool_)
        try:
            self._advance()
        except SimulationError as error:
            failed[error.ids] = True
        failed |= self._batch.warning[:, _FATAL, 1].any(axis=1)
        return failed

    def _advance(self) -> None:
        """Make the physics steps of an environment step; as after mj_step, what is derived is one physics step old."""
        self._batch.step(nstep=self.frameskip)

    def scale(self, worlds: Worlds, factors: Array) -> None:
        """Give the agents of n worlds other physical parameters; `mj_setConst` has to follow.

        Args:
            worlds: indices of n worlds.
            factors: factors of the agents' masses and inertias, joint damping and actuator gears, (n, 3); a subclass
                may have more.
        """
        if not self._scaled and (factors != 1.0).any():
            self._expand_agent()
        for field, own, values, factor in self._scaled:
            field[worlds[:, None], own] = values * factors[:, factor].reshape(-1, *[1] * values.ndim)

    def _expand_agent(self) -> None:
        """Give each world its own copy of the agent's physical parameters."""
        model = self.model
        bodies = np.flatnonzero(model.body_rootid == self._agent)
        dofs = np.flatnonzero(np.isin(model.dof_bodyid, bodies))
        fields = (
            ("body_mass", bodies, 0),
            ("body_inertia", bodies, 0),
            ("dof_damping", dofs, 1),
            ("actuator_gear", np.arange(model.nu), 2),
        )
        for name, rows, factor in fields:
            self._scaled.append((self._batch.expand(name), rows, getattr(model, name)[rows], factor))

    def geometry(self, world: int) -> Array:
        """Positions, m, and rotations to the world's frame of the geoms of a world, (geoms, 3 + 9)."""
        parts = [self._batch.bind(name)[world] for name in ("geom_xpos", "geom_xmat")]
        geometry: Array = np.concatenate(parts, axis=1)
        return geometry
