"""The common base of the families that run on the navigation engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.tasks.base import TaskFamily


@dataclass(frozen=True, kw_only=True)
class NavigationFamily(TaskFamily):
    """A family on a task of Safety-Gymnasium. Each task has a fixed layout; subclasses add further differences.

    Attributes:
        env_id: Safety-Gymnasium id.
        engine: mode of NavigationEnv.
        first_layout: layout seed of task 0; task i has the layout seed `first_layout` + i.
        near: see NavigationEnv, m; null for Safety-Gymnasium's observations alone.
        env_options: further arguments of NavigationEnv, the same for all tasks of a family.
    """

    env_id: str = "SafetyPointGoal1-v0"
    engine: str = bounded("fast", choices=("fast", "exact"))
    first_layout: int = bounded(0, low=0)
    near: float | None = bounded(None, above=0)

    env_options: ClassVar[Mapping[str, Any]] = {}

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        # imported here, because Safety-Gymnasium takes seconds to import and other families do not need it
        from cmaml_pl.envs.navigation import NavigationEnv

        return NavigationEnv(
            self.env_id,
            num_tasks,
            num_envs,
            mode=self.engine,
            num_threads=workers,
            horizon=horizon,
            reveal=self.reveal,
            near=self.near,
            **self.env_options,
        )
