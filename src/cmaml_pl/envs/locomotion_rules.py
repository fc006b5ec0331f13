"""What a step of a robot on legs is rewarded for and what it costs, by names that the configuration knows."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..bounds import check_choice

COSTS = ("velocity", "control", "height")

FACTORS = ("mass", "damping", "gear", "friction")
"""Physical parameters of a body that a task can scale: masses and inertias, joint damping, actuator gears, and the
friction of contacts."""

GOALS: Mapping[str, Mapping[str, float]] = {
    "forward": {},
    "target_velocity": {"target_velocity": 0.0},
    "target_direction": {"direction_x": 1.0, "direction_y": 0.0},
}
"""Reward -> parameters of a task that it needs, with the values of a world that has not been given a task."""


@dataclass(frozen=True)
class Rules:
    """Reward and cost of a step.

    Attributes:
        reward: "forward", the forward velocity, as Safety-Gymnasium's own; "target_velocity", -|v_x - g|, where g is
            the task's `target_velocity`, m/s (Finn et al. 2017); or "target_direction", the velocity along the task's
            direction, a unit vector (`direction_x`, `direction_y`). The body's own reward of each step in which it is
            alive is added to each of them, and its control cost subtracted. "forward" has the body's own weight.
        control_weight: weight of the squared actions in the reward; None for the body's own.
        cost: "velocity", 1 if the body is faster than the id's threshold, as Safety-Gymnasium's own; "control",
            `cost_weight` |a|^2 of the policy's action, before MuJoCo cuts it to the actuators' range (Xu & Zhu 2025);
            or "height", 1 if the head of a HalfCheetah is lower than `lowest_head`.
        cost_weight: weight of the cost "control" (Xu & Zhu 2025: 0.1 on HalfCheetah and on Hopper).
        lowest_head: of the cost "height", m; a HalfCheetah that stands has its head at 0.8.
    """

    reward: str = "forward"
    control_weight: float | None = None
    cost: str = "velocity"
    cost_weight: float = 0.1
    lowest_head: float = 0.6

    def __post_init__(self) -> None:
        """Check the names."""
        check_choice("reward", self.reward, tuple(GOALS))
        check_choice("cost", self.cost, COSTS)
