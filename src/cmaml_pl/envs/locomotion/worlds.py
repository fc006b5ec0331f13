"""Runs many worlds of one velocity task of Safety-Gymnasium, in NumPy."""

import mujoco
import numpy as np

from ..locomotion_rules import FACTORS, GOALS, Rules
from ..physics import Array, BatchPhysics, Worlds
from ..worlds import EXCEPTION_COST, Outcome
from .definition import Definition

FORCES = ("cinert", "cvel", "qfrc_actuator")
"""What a Humanoid observes beside positions and velocities, and before its contact forces."""


class Physics(BatchPhysics):
    """The simulations of the bodies.

    Args:
        definition: the id.
        num_worlds: W, number of worlds.
        num_threads: number of threads, including that of the caller.

    Attributes:
        qpos: joint positions, (W, nq).
        qvel: joint velocities, (W, nv).
        forces: what is observed beside them, each (W, ...).
    """

    def __init__(self, definition: Definition, num_worlds: int, *, num_threads: int) -> None:
        model = definition.model
        agent = model.body("torso").id
        humanoid = definition.kind == "HumanoidEnv"
        super().__init__(
            model,
            num_worlds,
            num_threads=num_threads,
            frameskip=definition.frame_skip,
            agent=model.body_rootid[agent],
            persistent=humanoid,
        )
        batch = self._batch
        self.qpos, self.qvel = batch.bind("qpos"), batch.bind("qvel")
        self._torso = batch.bind("xpos")[:, agent] if definition.kind == "AntEnv" else None
        self._head = batch.bind("geom_xpos")[:, model.geom("head").id, 2] if definition.has_head else None
        self._parts = (batch.expand("body_mass"), batch.bind("xipos")) if humanoid else None
        self._contact_forces: Array = np.zeros((num_worlds, model.nbody, 6))
        self._scratch = mujoco.MjData(model) if humanoid else None
        self.forces = [*(batch.bind(name) for name in FORCES), self._contact_forces] if humanoid else []

    def _advance(self) -> None:
        """See BatchPhysics; gymnasium computes contact forces after it."""
        super()._advance()
        if self._scratch is None:
            return
        self._contact_forces[:] = 0.0
        for world in np.flatnonzero(self._batch.bind("ncon") > 0):
            self._batch.get_data(int(world), self._scratch)
            mujoco.mj_rnePostConstraint(self.model, self._scratch)
            self._contact_forces[world] = self._scratch.cfrc_ext

    def place(self) -> Array:
        """Where the bodies are, m, (W, 2), as the originals measure it; what moves in a plane moves along the first."""
        if self._parts is not None:  # the centre of mass
            mass, position = self._parts[0][:, :, None], self._parts[1]
            return np.asarray((mass * position).sum(axis=1) / mass.sum(axis=1))[:, :2]
        return np.array(self.qpos[:, :2] if self._torso is None else self._torso[:, :2])

    def head(self) -> Array:
        """Height of the heads of HalfCheetahs, m, (W,)."""
        assert self._head is not None, "LocomotionEnv refuses the cost `height` for bodies without a head"
        height: Array = self._head
        return height

    def _expand_agent(self) -> None:
        """See BatchPhysics; and friction: all geoms', because a contact has that of the rougher one of its two."""
        super()._expand_agent()
        friction = self.model.geom_friction
        self._scaled.append((self._batch.expand("geom_friction"), np.arange(len(friction)), friction, 3))

    def start(self, worlds: Worlds, qpos: Array, qvel: Array) -> None:
        """Start the given worlds at joint positions (n, nq) and velocities (n, nv), at time 0."""
        if self._scaled:
            self._batch.set_const(worlds)
        self._batch.reset(worlds, stage=0)
        self.qpos[worlds], self.qvel[worlds] = qpos, qvel
        self._batch.forward(worlds)
        self._contact_forces[worlds] = 0.0


class LocomotionWorlds:
    """Worlds that behave like those of safety_gymnasium, each with its own random stream.

    Args:
        definition: the id.
        num_worlds: W, number of worlds.
        rules: what a step is rewarded for, and what it costs.
        horizon: steps after which an episode is truncated.
        num_threads: number of threads of the physics.

    Attributes:
        factors: factors of masses and inertias, joint damping, gears and friction, (W, 4), from a world's next reset
            on.
        goals: what the reward asks of each world, (W, parameters of `GOALS`).
        first_stream: what is added to the number of a world for its random stream.
    """

    def __init__(
        self, definition: Definition, num_worlds: int, *, rules: Rules, horizon: int, num_threads: int
    ) -> None:
        self.definition, self.rules, self.horizon = definition, rules, horizon
        self.physics = Physics(definition, num_worlds, num_threads=num_threads)
        self.factors: Array = np.ones((num_worlds, len(FACTORS)))
        self.goals: Array = np.tile([*GOALS[rules.reward].values()], (num_worlds, 1))
        own = definition.control_weight
        self._control_weight = own if rules.control_weight is None else rules.control_weight
        self.first_stream = 0
        self._place: Array = np.zeros((num_worlds, 2))
        self._steps = np.zeros(num_worlds, np.intp)
        # the original would put a drawn start into its own simulation and observe it, which takes most of the time
        definition.original.set_state, definition.original._get_obs = self._note_start, lambda: None
        self._start: tuple[Array, Array]
        self._streams = [np.random.default_rng(0)] * num_worlds
        self.seed_streams(0)

    def seed_stream(self, world: int, seed: int) -> None:
        """See BatchedWorlds."""
        from gymnasium.utils.seeding import np_random  # here, because a first import prints notices

        self._streams[world] = np_random(seed)[0]

    def seed_streams(self, seed: int) -> None:
        """See BatchedWorlds; a rank's first world is `first_stream`."""
        for world in range(len(self._steps)):
            self.seed_stream(world, seed + self.first_stream + world)

    def reset(self, worlds: Worlds) -> None:
        """See BatchedWorlds."""
        self.physics.scale(worlds, self.factors[worlds])
        starts = [self._draw_start(world) for world in worlds]
        qpos, qvel = (np.stack(values) for values in zip(*starts, strict=True))
        self.physics.start(worlds, qpos, qvel)
        self._place[worlds] = self.physics.place()[worlds]
        self._steps[worlds] = 0

    def _draw_start(self, world: int) -> tuple[Array, Array]:
        """Joint positions and velocities at the start of an episode, as the original draws them."""
        original = self.definition.original
        original.np_random = self._streams[world]
        original.reset_model()
        return self._start

    def _note_start(self, qpos: Array, qvel: Array) -> None:
        self._start = qpos, qvel

    def step(self, actions: Array) -> Outcome:
        """See BatchedWorlds; actions are not clipped, and all of an action counts in the reward."""
        physics = self.physics
        failed = physics.step(actions)
        before, self._place = self._place, physics.place()
        velocity = (self._place - before) / self.definition.seconds
        effort = np.square(actions).sum(axis=1)
        reward = self._progress(velocity) + self.definition.alive_reward
        reward -= self._control_weight * effort
        self._steps += 1
        return Outcome(
            reward=np.where(failed, 0.0, reward),
            cost=np.where(failed, EXCEPTION_COST, self._cost(velocity, effort)),
            terminated=~failed & ~self.definition.alive(physics.qpos, physics.qvel),
            truncated=failed | (self._steps >= self.horizon),
            failed=failed,
        )

    def _progress(self, velocity: Array) -> Array:
        """What a step is rewarded for, (W,), at velocities (W, 2), m/s."""
        if self.rules.reward == "target_velocity":
            return -np.abs(velocity[:, 0] - self.goals[:, 0])
        if self.rules.reward == "target_direction":
            return np.asarray((velocity * self.goals).sum(axis=1))
        return self.definition.forward_weight * velocity[:, 0]

    def _cost(self, velocity: Array, effort: Array) -> Array:
        """What a step costs, (W,), at velocities (W, 2), m/s, and squared actions (W,)."""
        if self.rules.cost == "control":
            return self.rules.cost_weight * effort
        if self.rules.cost == "height":
            return (self.physics.head() < self.rules.lowest_head).astype(np.float64)
        speed = np.sqrt((velocity**2).sum(axis=1)) if self.definition.free else velocity[:, 0]
        return (speed > self.definition.threshold).astype(np.float64)

    def observe(self) -> Array:
        """See BatchedWorlds."""
        rule, physics = self.definition, self.physics
        velocity = physics.qvel.clip(-rule.velocity_clip, rule.velocity_clip)
        seen = [physics.qpos[:, rule.hidden_positions :], velocity]
        seen += [forces.reshape(len(velocity), -1) for forces in physics.forces]
        observation: Array = np.concatenate(seen, axis=1)
        return observation

    def named_positions(self) -> dict[str, Array]:
        """See BatchedWorlds."""
        place = self._place if self.definition.free else self._place * (1.0, 0.0)
        found = {"agent": place[:, None].copy()}
        if self.rules.reward != "forward":  # a target direction is drawn as a target that moves at 1 m/s
            velocity = np.zeros((len(place), 2))
            velocity[:, : self.goals.shape[1]] = self.goals
            found["target"] = (velocity * self._steps[:, None] * self.definition.seconds)[:, None]
        return found
