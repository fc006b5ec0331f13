"""The family whose task is how the agent answers to its actions."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.tasks.ranges import TEST_RANGES, check_ranges, draw
from cmaml_pl.tasks.task import Task


@dataclass(frozen=True)
class DynamicsFamily:
    """Safety-Gymnasium's own task with a fixed layout and an agent of another make: `mass`, `damping` and `gear`.

    Each is a factor of the agent's masses and inertias, of its joints' damping, or of its actuators' gears. None is
    observed: what they do to the motion is all that tells them. Goal and hazards are observed, so that a policy can
    know where to go, and has to find out how to brake and turn.

    Attributes:
        env_id: Safety-Gymnasium id.
        engine: mode of NavigationEnv.
        first_layout: layout seed of task 0; task i has `first_layout` + i.
        factors: range of all three, each drawn uniformly.
        outside_factors: the wider range, which all three factors of a test task outside the training range come from.
        test_range: whether test tasks are drawn inside or outside the training range.
    """

    family: str = "dynamics"
    train: int = bounded(1000, low=1)
    validation: int = bounded(8, low=1)
    test: int = bounded(16, low=1)
    env_id: str = "SafetyPointGoal1-v0"
    engine: str = bounded("fast", choices=("fast", "exact"))
    first_layout: int = bounded(0, low=0)
    factors: list[float] = bounded([0.25, 1.75], low=0.05, high=20)
    outside_factors: list[float] = bounded([0.15, 2.25], low=0.05, high=20)
    test_range: str = bounded("inside", choices=TEST_RANGES)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges("factors", self.factors, self.outside_factors)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        rng = np.random.default_rng([4, task_id])  # the factors' stream; the layout has its own
        outside = self.test_range == "outside" and task_id >= self.train + self.validation
        factors = {
            name: draw(rng, self.factors, self.outside_factors if outside else None)
            for name in ("mass", "damping", "gear")
        }
        return Task("dynamics", task_id, self.first_layout + task_id, cost_limit, factors)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        # imported here: Safety-Gymnasium takes seconds to import, and other families do without it
        from cmaml_pl.envs.navigation import NavigationEnv

        return NavigationEnv(self.env_id, num_tasks, num_envs, mode=self.engine, num_threads=workers, horizon=horizon)
