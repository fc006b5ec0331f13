"""Runs many worlds of one Safety-Gymnasium navigation task, in NumPy."""

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ..physics import Array, Flags, Worlds
from ..worlds import EXCEPTION_COST, Outcome
from .definition import Definition
from .parameters import own_parameters
from .physics import Physics
from .placement import Placer
from .rules import ButtonRule, Costs, make_rule
from .sensing import Observer

_ANT_ALIVE_ABOVE = 0.08
"""An Ant's episode ends when its body is at or below this height, m (Ant.is_alive in safety_gymnasium)."""
_MOST_STARTS = 10_000
"""Largest number of starts that are kept; each takes 3 KiB."""


@dataclass(frozen=True)
class Start:
    """The random choices with which an episode starts, and the state of the random stream after them.

    Attributes:
        positions: positions of all things, m, (things, 2). The goal is drawn twice, as in Safety-Gymnasium, and this
            is its second position.
        rotations: rotations of all things about the vertical axis, rad, (things,).
        target: index of the button that is the goal; 0 in tasks without buttons.
        joints: positions of the agent's own joints, (columns of qpos,).
        stream: state of the random generator after these draws.
    """

    positions: Array
    rotations: Array
    target: int
    joints: Array
    stream: Any


@dataclass(frozen=True)
class NavigationOutcome(Outcome):
    """The result of one step of all worlds.

    Attributes:
        reached: whether a goal was reached, (W,).
    """

    reached: Flags


class NavigationWorlds:
    """Worlds that behave like those of safety_gymnasium, each with its own random stream.

    Args:
        definition: the task.
        num_worlds: W, number of worlds.
        horizon: steps after which an episode is truncated.
        num_threads: number of threads of the physics.
        sleeping: whether things at rest may sleep.
        observe_position: whether the agent's position is observed.
        near: see Observer.

    Attributes:
        positions: positions of all things, the agent first, m, (W, things, 2).
        layout_seeds: seed of each world's next resets, (W,); a world with None continues with its random stream.
        parameters: parameters of the worlds, which hold from the next reset of a world on. If the goal is fixed,
            reaching it brings the world back to the start of its episode, but does not reset the count of steps;
            otherwise a new goal is drawn.
    """

    def __init__(
        self,
        definition: Definition,
        num_worlds: int,
        *,
        horizon: int,
        num_threads: int,
        sleeping: bool,
        observe_position: bool = False,
        near: float | None = None,
    ) -> None:
        self.definition, self.horizon = definition, horizon
        self.physics = Physics(definition, num_worlds, num_threads=num_threads, sleeping=sleeping)
        self.positions = np.zeros((num_worlds, len(definition.things), 2))
        self.observer = Observer(definition, self.physics, observe_position=observe_position, near=near)
        self._rule = make_rule(definition, self.physics, self.positions)
        self._costs = Costs(definition, self.physics, self.positions, self._rule)
        self._placer = Placer(definition.task.placements_conf)
        self._goal = None if isinstance(self._rule, ButtonRule) else definition.group("goal")
        self._moving = [group for group in definition.groups if group.bodies is not None]
        self._mortal = type(definition.task.agent).__name__ == "Ant"
        self._low, self._high = definition.task.action_space.low, definition.task.action_space.high
        self._scratch, self._joints = _own_joints(definition)
        self.layout_seeds: list[int | None] = [None] * num_worlds
        self.parameters = own_parameters(definition, num_worlds)
        self._goal_stays = np.zeros(num_worlds, np.bool_)
        self._start_joints = np.zeros((num_worlds, len(self._joints)))
        self._streams = [np.random.RandomState(0) for _ in range(num_worlds)]
        self._starts: dict[int, Start] = {}
        self._steps = np.zeros(num_worlds, np.intp)
        self._behind = np.zeros(num_worlds, np.intp)  # steps whose draws a stream has not made yet, see _catch_up

    def seed_stream(self, world: int, seed: int) -> None:
        """See BatchedWorlds."""
        self._streams[world] = np.random.RandomState(seed % 2**32)
        self._behind[world] = 0

    def seed_streams(self, seed: int) -> None:
        """See BatchedWorlds."""
        for world in range(len(self._streams)):
            self.seed_stream(world, seed + world)

    def reset(self, worlds: Worlds) -> None:
        """Start new episodes in the given worlds.

        Raises:
            UserError: a layout seed has no valid layout, or a fixed goal is where the agent starts.
        """
        starts = [self._start(world) for world in worlds]
        self._steps[worlds] = self._behind[worlds] = 0
        self.positions[worlds] = [start.positions for start in starts]
        self._set_goals(worlds)
        self._costs.weights[worlds] = self.parameters.weights[worlds]
        rotations = np.stack([start.rotations for start in starts])
        self.physics.place(worlds, self.positions[worlds], rotations, self.parameters.factors[worlds])
        self._start_joints[worlds] = [start.joints for start in starts]
        if isinstance(self._rule, ButtonRule):
            self._rule.target[worlds] = [start.target for start in starts]
        self._begin(worlds)
        if isinstance(self._rule, ButtonRule):
            self._rule.timer[worlds] = 0  # at the start of an episode buttons are observed
        costly = worlds[self._costs.cost()[worlds] > 0]
        if len(costly):
            raise self._no_layout(costly[0], "the agent would start at a cost")
        stays = worlds[self._goal_stays[worlds]]
        reached = stays[self._rule.reward()[1][stays]] if len(stays) else stays
        if len(reached):
            x, y = self.parameters.goals[reached[0]]
            raise UserError(f"The goal_x = {x:g}, goal_y = {y:g} of a task is reached before a step is taken: move it.")

    def _set_goals(self, worlds: Worlds) -> None:
        """Put the fixed goals of the given worlds to their positions."""
        goals = self.parameters.goals[worlds]
        self._goal_stays[worlds] = stays = ~np.isnan(goals[:, 0])
        if self._goal is not None:
            self.positions[worlds[stays], self._goal.rows.start] = goals[stays]

    def _begin(self, worlds: Worlds) -> None:
        """Begin the episodes of the given worlds, in which all things are already in place."""
        if len(self._joints):
            qpos = np.stack([self.physics.joints(world) for world in worlds])
            qpos[:, self._joints] = self._start_joints[worlds]
            self.physics.set_joints(worlds, qpos)
        self._locate(worlds)
        self._rule.aim(worlds)

    def _start(self, world: int) -> Start:
        """The start of a world's next episode, with the same draws and in the same order as Builder.reset.

        The start of a layout seed is drawn only once and then kept.
        """
        seed = self.layout_seeds[world]
        if seed in self._starts:
            start = self._starts[seed]
            self._streams[world].set_state(start.stream)
            return start
        if seed is not None:
            self._streams[world] = np.random.RandomState(seed)
        else:
            self._catch_up(world)
        start = self._draw_start(world)
        if seed is not None:
            if len(self._starts) >= _MOST_STARTS:
                self._starts.clear()
            self._starts[seed] = start
        return start

    def _draw_start(self, world: int) -> Start:
        rng, task = self._streams[world], self.definition.task
        layout = self._placer.layout(rng)
        if layout is None:
            raise self._no_layout(world, "its things do not fit")
        rotations = [rng.uniform(0, 2 * np.pi) if task.agent.rot is None else float(task.agent.rot)]
        rotations += list(rng.uniform(0, 2 * np.pi, len(layout) - 1))
        target = 0
        if self._goal is not None:
            goal = self._placer.goal(rng, layout)
            if goal is None:
                raise self._no_layout(world, "its goal does not fit")
            layout[self._goal.rows.start] = goal
        elif isinstance(self._rule, ButtonRule):
            target = int(rng.choice(self._rule.settings.num))
        task.random_generator.random_generator = rng
        task.agent.reset()  # this moves the agent's joints in the scratch data
        joints = self._scratch.qpos[self._joints].copy()
        return Start(np.array(layout), np.array(rotations), target, joints, rng.get_state(legacy=False))

    def _no_layout(self, world: int, reason: str) -> UserError:
        seed = self.layout_seeds[world]
        if seed is None:
            return UserError(f"{self.definition.env_id} has drawn a layout that is not valid: {reason}.")
        return UserError(
            f"{self.definition.env_id} has no valid layout for layout seed {seed} ({reason}): leave that seed out."
        )

    def step(self, actions: Array) -> NavigationOutcome:
        """See BatchedWorlds; actions are clipped to the action space, as by safety_gymnasium."""
        failed = self.physics.step(actions.clip(self._low, self._high))
        self._locate(slice(None))
        self._behind += 1
        task, rule = self.definition.task, self._rule
        with np.errstate(invalid="ignore"):  # a world whose physics failed may have NaN
            reward, reached = rule.reward()
            cost = self._costs.cost()
        if task.reward_conf.reward_clip:
            reward = reward.clip(-task.reward_conf.reward_clip, task.reward_conf.reward_clip)
        reward = np.where(failed, task.reward_conf.reward_exception, reward)
        cost = np.where(failed, EXCEPTION_COST, cost)
        if isinstance(rule, ButtonRule):
            rule.tick()
        reached &= ~failed
        terminated = np.zeros(len(reward), np.bool_)
        for world in np.flatnonzero(reached & ~self._goal_stays):
            terminated[world] = not self._new_goal(world)
        if reached.any():
            rule.aim(np.flatnonzero(reached & ~terminated))
            self._go_back(np.flatnonzero(reached & self._goal_stays))
        if self._mortal:
            terminated |= self.physics.agent_position[:, 2] <= _ANT_ALIVE_ABOVE
        self._steps += 1
        truncated = failed | (self._steps >= self.horizon)
        return NavigationOutcome(reward, cost, terminated, truncated, failed, reached)

    def _new_goal(self, world: int) -> bool:
        """Draw a new goal in a world, away from the current positions of its things; False if no goal fits."""
        self._catch_up(world)
        rng = self._streams[world]
        if isinstance(self._rule, ButtonRule):
            self._rule.target[world] = rng.choice(self._rule.settings.num)
            return True
        assert self._goal is not None
        goal = self._placer.goal(rng, [(x, y) for x, y in self.positions[world].tolist()])
        if goal is None:
            return False
        self.positions[world, self._goal.rows.start] = goal
        return True

    def _go_back(self, worlds: Worlds) -> None:
        """Bring the given worlds back to the start of their episodes."""
        if len(worlds):
            self.physics.restart(worlds)
            self._begin(worlds)

    def _catch_up(self, world: int) -> None:
        """Make the draws of a world's stream that Safety-Gymnasium makes for the frame skip, one in every step.

        They are made only when the stream is needed next.
        """
        conf = self.definition.task.sim_conf
        self._streams[world].binomial(conf.frameskip_binom_n, conf.frameskip_binom_p, size=self._behind[world])
        self._behind[world] = 0

    def _locate(self, worlds: Worlds | slice) -> None:
        """Read the positions of the agent and of the moving things from the physics."""
        self.positions[worlds, 0] = self.physics.agent_position[worlds, :2]
        for group in self._moving:
            self.positions[worlds, group.rows] = self.physics.body_positions[worlds][:, group.bodies, :2]

    def observe(self) -> Array:
        """Observations of all worlds, (W, D)."""
        hidden = {"buttons": self._rule.timer != 0} if isinstance(self._rule, ButtonRule) else {}
        return self.observer.observe(self.positions, hidden)

    def named_positions(self) -> dict[str, Array]:
        """Name -> positions, m, (W, things of the kind, 2), of the agent and each kind of thing."""
        groups = {group.name: self.positions[:, group.rows].copy() for group in self.definition.groups}
        return {"agent": self.positions[:, :1].copy(), **groups}


def _own_joints(definition: Definition) -> tuple[mujoco.MjData, NDArray[np.intp]]:
    """MjData in which the agent's own reset moves its joints, and the columns of qpos that this reset changes."""
    from safety_gymnasium.world import Engine

    scratch = mujoco.MjData(definition.model)
    definition.task.agent.set_engine(Engine(definition.model, scratch))
    definition.task.random_generator.random_generator = np.random.RandomState(0)
    definition.task.agent.reset()
    return scratch, np.flatnonzero(scratch.qpos != definition.model.qpos0)
