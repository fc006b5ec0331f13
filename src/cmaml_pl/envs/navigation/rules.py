"""Rewards and costs of the tasks, for all worlds at once.

Each formula is that of the class in safety_gymnasium that the docstring names. Sizes, weights and thresholds are read
from the objects of safety_gymnasium's task. New goals are not drawn here, but by NavigationWorlds.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from ..physics import Array, Flags, Worlds
from .definition import Definition, Group
from .physics import Physics


class Rule(ABC):
    """The reward of a task, and when its goal is reached."""

    @abstractmethod
    def aim(self, worlds: Worlds) -> None:
        """Measure progress in the given worlds from their current state on.

        It is called at the start of an episode and after every new goal.
        """

    @abstractmethod
    def reward(self) -> tuple[Array, Flags]:
        """The reward of the last step, and whether the goal was reached, (W,) each."""


class GoalRule(Rule):
    """GoalLevel0: progress toward the goal, and a bonus when the agent is in it."""

    def __init__(self, definition: Definition, physics: Physics, positions: Array) -> None:
        self._settings = _required(definition, "goal").settings
        self._goal = positions[:, _required(definition, "goal").rows.start]
        self._physics = physics
        self._last: Array = np.zeros(len(positions))

    def _distance(self) -> Array:
        return _length(self._goal - self._physics.agent_position[:, :2])

    def aim(self, worlds: Worlds) -> None:
        """See Rule."""
        self._last[worlds] = self._distance()[worlds]

    def reward(self) -> tuple[Array, Flags]:
        """See Rule."""
        distance = self._distance()
        reached = distance <= self._settings.size
        reward = (self._last - distance) * self._settings.reward_distance + reached * self._settings.reward_goal
        self._last = distance
        return reward, reached


class ButtonRule(Rule):
    """ButtonLevel0: progress toward the button that is the goal, and a bonus for touching it.

    Attributes:
        target: index of the button that is the goal, (W,).
        timer: remaining steps in which buttons are neither observed nor cost, (W,); it starts when the goal button is
            pressed.
    """

    def __init__(self, definition: Definition, physics: Physics, positions: Array) -> None:
        group = _required(definition, "buttons")
        assert group.touch is not None
        self.settings, self._touch = group.settings, group.touch
        self._buttons = positions[:, group.rows]
        self._goal = positions[:, _required(definition, "goal").rows.start]
        self._physics = physics
        self._every = np.arange(len(positions))
        self.target = np.zeros(len(positions), np.intp)
        self.timer: NDArray[np.intp] = np.zeros(len(positions), np.intp)
        self._last: Array = np.zeros(len(positions))

    @property
    def touched(self) -> Array:
        """Number of contacts of the agent with each button, (W, buttons)."""
        return self._physics.sensors[:, self._touch]

    def _distance(self) -> Array:
        return _length(self._goal - self._physics.agent_position[:, :2])

    def aim(self, worlds: Worlds) -> None:
        """See Rule."""
        self._goal[worlds] = self._buttons[worlds, self.target[worlds]]
        self._last[worlds] = self._distance()[worlds]
        self.timer[worlds] = self.settings.resampling_delay

    def reward(self) -> tuple[Array, Flags]:
        """See Rule."""
        distance = self._distance()
        reached = self.touched[self._every, self.target] > 0
        reward = (self._last - distance) * self.settings.reward_distance + reached * self.settings.reward_goal
        self._last = distance
        return reward, reached

    def tick(self) -> None:
        """Count the timer down by one step."""
        self.timer = np.maximum(0, self.timer - 1)


class PushRule(Rule):
    """PushLevel0: progress of the agent toward the box and of the box toward the goal, and a bonus for reaching it."""

    def __init__(self, definition: Definition, physics: Physics, positions: Array) -> None:
        goal, box = _required(definition, "goal"), _required(definition, "push_box")
        assert box.bodies is not None
        self._goal, self._goal_height = positions[:, goal.rows.start], definition.heights[goal.rows.start]
        self._goal_settings, self._box_settings = goal.settings, box.settings
        self._physics, self._box_body = physics, int(box.bodies[0])
        self._last_box: Array = np.zeros(len(positions))
        self._last_goal: Array = np.zeros(len(positions))

    def _distances(self) -> tuple[Array, Array]:
        """Distances from the agent to the box and from the box to the goal, in three dimensions, m, (W,) each."""
        box = self._physics.body_positions[:, self._box_body]
        height = np.full((len(box), 1), self._goal_height)
        return _length(box - self._physics.agent_position), _length(box - np.concatenate([self._goal, height], axis=1))

    def aim(self, worlds: Worlds) -> None:
        """See Rule."""
        to_box, to_goal = self._distances()
        self._last_box[worlds], self._last_goal[worlds] = to_box[worlds], to_goal[worlds]

    def reward(self) -> tuple[Array, Flags]:
        """See Rule."""
        to_box, to_goal = self._distances()
        box = self._box_settings
        far = self._last_box > box.null_dist * box.size
        reached = to_goal <= self._goal_settings.size
        reward = (
            (self._last_box - to_box) * box.reward_box_dist * far
            + (self._last_goal - to_goal) * box.reward_box_goal
            + reached * self._goal_settings.reward_goal
        )
        self._last_box, self._last_goal = to_box, to_goal
        return reward, reached


class CircleRule(Rule):
    """CircleLevel0: speed along the circle; it counts more the nearer the agent is to the circle."""

    def __init__(self, definition: Definition, physics: Physics, positions: Array) -> None:
        self._radius, self._factor = definition.task.circle.radius, definition.task.reward_factor
        self._physics = physics

    def aim(self, worlds: Worlds) -> None:
        """See Rule; nothing to do, because this reward depends on speed, not on progress."""

    def reward(self) -> tuple[Array, Flags]:
        """See Rule."""
        x, y, _ = self._physics.agent_position.T
        u, v, _ = self._physics.agent_velocity().T
        radius = np.sqrt(x**2 + y**2)
        reward = ((-u * y + v * x) / radius) / (1 + np.abs(radius - self._radius)) * self._factor
        return reward, np.zeros(len(x), np.bool_)


class RunRule(Rule):
    """RunLevel0: progress toward a point far away."""

    def __init__(self, definition: Definition, physics: Physics, positions: Array) -> None:
        self._far, self._factor = np.asarray(definition.task.goal_pos), definition.task.reward_factor
        self._physics = physics
        self._last: Array = np.zeros(len(positions))

    def _potential(self) -> Array:
        potential: Array = -_length(self._physics.agent_position[:, :2] - self._far) * self._factor
        return potential

    def aim(self, worlds: Worlds) -> None:
        """See Rule."""
        self._last[worlds] = self._potential()[worlds]

    def reward(self) -> tuple[Array, Flags]:
        """See Rule."""
        potential = self._potential()
        reward = potential - self._last
        self._last = potential
        return reward, np.zeros(len(reward), np.bool_)


def make_rule(definition: Definition, physics: Physics, positions: Array) -> Rule:
    """The rule of a task.

    Args:
        definition: the task.
        physics: the physics of the worlds.
        positions: positions of all things, m, (W, things, 2); the rule keeps this array, in which goals move later.
    """
    from safety_gymnasium import tasks

    kinds: dict[type, type[Rule]] = {
        tasks.GoalLevel0: GoalRule,
        tasks.ButtonLevel0: ButtonRule,
        tasks.PushLevel0: PushRule,
        tasks.CircleLevel0: CircleRule,
        tasks.RunLevel0: RunRule,
    }
    rule = next(rule for kind, rule in kinds.items() if isinstance(definition.task, kind))
    return rule(definition, physics, positions)  # type: ignore[call-arg]


class Costs:
    """BaseTask.calculate_cost: the sum of the costs of a task's objects in a step, with a weight for each kind.

    Args:
        definition: the task.
        physics: the physics of the worlds.
        positions: positions of all things, m, (W, things, 2).
        rule: the rule of the task.

    Attributes:
        weights: weights of the groups that can cost, in the order of `Definition.costly`, (W, groups). At first they
            are Safety-Gymnasium's own: 1 for a constrained group, 0 for another one.
    """

    def __init__(self, definition: Definition, physics: Physics, positions: Array, rule: Rule) -> None:
        self._physics, self._positions, self._rule = physics, positions, rule
        self._groups = definition.costly
        self.weights = np.tile(own_weights(definition), (len(positions), 1))
        self._indicator = definition.task.cost_conf.constrain_indicator

    def cost(self) -> Array:
        """Cost of the step, (W,): 1 if any object costs, otherwise 0; the amount itself if the task is set so."""
        total = np.zeros(len(self._positions))
        for group, weight in zip(self._groups, self.weights.T, strict=True):
            if weight.any():
                total += weight * self._of_group(group)
        return (total > 0).astype(np.float64) if self._indicator else total

    def _of_group(self, group: Group) -> Array:
        settings, agent = group.settings, self._physics.agent_position
        kind = type(settings).__name__
        if kind == "Hazards":
            distance = _length(self._positions[:, group.rows] - agent[:, None, :2])
            inside: Array = (np.maximum(0.0, settings.size - distance) * settings.cost).sum(axis=1)
            return inside
        if kind == "Sigwalls":
            outside = np.abs(agent[:, : settings.num // 2]) > settings.locate_factor  # 2 walls bound x, 4 bound x and y
            beyond: Array = outside.any(axis=1).astype(np.float64)
            return beyond
        touched = self._physics.sensors[:, group.touch]
        if kind == "Vases":
            assert group.bodies is not None
            speed = self._physics.speeds(group.bodies)
            moving = np.where(speed >= settings.velocity_threshold, speed, 0.0).sum(axis=1)
            contact: Array = touched.sum(axis=1) * settings.contact_cost + moving * settings.velocity_cost
            return contact
        if kind == "Buttons":
            assert isinstance(self._rule, ButtonRule)
            wrong = touched.sum(axis=1) - touched[np.arange(len(touched)), self._rule.target]
            return np.where(self._rule.timer == 0, wrong * settings.cost, 0.0)
        weight = settings.contact_cost if kind == "Gremlins" else settings.cost
        other: Array = touched.sum(axis=1) * weight
        return other


def own_weights(definition: Definition) -> Array:
    """Safety-Gymnasium's own weights of the groups that can cost, (groups,): its is_constrained as 0 or 1."""
    return np.array([float(group.settings.is_constrained) for group in definition.costly])


def _required(definition: Definition, name: str) -> Group:
    group = definition.group(name)
    assert group is not None
    return group


def _length(vectors: Array) -> Array:
    length: Array = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))  # much faster than sum() for a short axis
    return length
