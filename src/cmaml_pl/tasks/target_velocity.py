"""The family whose tasks differ in the velocity that a robot is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.task import Task
from cmaml_pl.tasks.locomotion import LocomotionFamily


@dataclass(frozen=True, kw_only=True)
class TargetVelocityFamily(LocomotionFamily):
    """A robot that is rewarded by -|v_x - g| in each step, where each task has its own g, `target_velocity`, m/s.

    g is not observed; only the reward tells it (Finn et al. 2017).

    Attributes:
        velocities: range of g, m/s (Finn et al. 2017: 0 to 2 on HalfCheetah).
        outside_velocities: the wider range, for test tasks outside the training range.
        spread: null draws g uniformly; a number is the standard deviation of a normal distribution about the middle of
            the range, cut to the range, m/s (Xu & Zhu 2025: 0.1 between 0 and 1 on Hopper).
    """

    family: str = "target_velocity"
    validation: int = bounded(20, low=1)
    test: int = bounded(20, low=1)  # (Xu & Zhu 2025)
    velocities: list[float] = bounded([0.0, 2.0], low=-10, high=10)
    outside_velocities: list[float] = bounded([0.0, 3.0], low=-10, high=10)
    spread: float | None = bounded(None, above=0)

    reward: ClassVar = "target_velocity"

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self.check_ranges("velocities", self.velocities, self.outside_velocities)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; m/s."""
        return ("target_velocity",)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([6, task_id])
        target = self.draw(rng, task_id, self.velocities, self.outside_velocities)
        return Task(self.family, task_id, task_id, cost_limit, {"target_velocity": target})

    def draw(self, rng: np.random.Generator, task_id: int, inside: Sequence[float], outside: Sequence[float]) -> float:
        """See RangedFamily; a normal distribution within the range if there is a `spread`."""
        if self.spread is None or self.is_outside(task_id):
            return super().draw(rng, task_id, inside, outside)
        normal = NormalDist(sum(inside) / 2, self.spread)
        low, high = (normal.cdf(end) for end in inside)
        return normal.inv_cdf(rng.uniform(low, high))
