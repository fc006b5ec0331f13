"""The family whose tasks differ in the direction that a robot is asked to go."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task
from cmaml_pl.tasks.locomotion import LocomotionFamily

if TYPE_CHECKING:
    from cmaml_pl.envs.locomotion import LocomotionEnv


@dataclass(frozen=True, kw_only=True)
class TargetDirectionFamily(LocomotionFamily):
    """A robot that is rewarded by its velocity along a direction, which is the task and is not observed.

    The direction is the unit vector (`direction_x`, `direction_y`). A robot that moves in a plane knows two, forward
    and backward (Finn et al. 2017).

    Attributes:
        env_id: Safety-Gymnasium id.
        ways: "two", forward or backward, or "any" direction of `directions`.
        directions: range of the directions from where the robot faces, positive to its left, degrees.
        outside_directions: the wider range, for test tasks outside the training range.
    """

    family: str = "target_direction"
    env_id: str = "SafetyAntVelocity-v1"
    validation: int = bounded(20, low=1)
    test: int = bounded(40, low=1)  # (Finn et al. 2017)
    ways: str = bounded("any", choices=("two", "any"))
    directions: list[float] = bounded([-90.0, 90.0], low=-180, high=180)
    outside_directions: list[float] = bounded([-180.0, 180.0], low=-180, high=180)

    reward: ClassVar = "target_direction"

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self.check_ranges("directions", self.directions, self.outside_directions)
        if self.ways == "two" and self.test_range == "outside":
            raise UserError("tasks.test_range is outside, but tasks.ways is two: training has both already.")

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; parts of a unit vector."""
        return ("direction_x", "direction_y")

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([7, task_id])
        if self.ways == "two":
            x, y = float(rng.choice((-1.0, 1.0))), 0.0
        else:
            angle = math.radians(self.draw(rng, task_id, self.directions, self.outside_directions))
            x, y = math.cos(angle), math.sin(angle)
        return Task(self.family, task_id, task_id, cost_limit, {"direction_x": x, "direction_y": y})

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> "LocomotionEnv":
        """See TaskFamily.

        Raises:
            UserError: the robot moves in a plane, and `ways` is "any".
        """
        env = super().make_env(num_tasks, num_envs, horizon=horizon, workers=workers)
        if self.ways == "any" and not env.worlds.definition.free:
            raise UserError(f"tasks.ways is any, but {self.env_id} moves in a plane: set it to two.")
        return env
