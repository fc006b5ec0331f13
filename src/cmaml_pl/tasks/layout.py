"""The family whose tasks differ in their layout; it is the paper's family."""

import logging
from dataclasses import dataclass

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.task import Task
from cmaml_pl.tasks.navigation import NavigationFamily

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LayoutFamily(NavigationFamily):
    """Safety-Gymnasium's own task with a layout that every reset uses again; tasks differ in the layout (the paper's).

    Nothing of it is hidden: goal and hazards are observed, so that there is no oracle (`observe_task`).

    Attributes:
        engine: "fast" and "exact" are the modes of NavigationEnv. "original" is Safety-Gymnasium itself in worker
            processes, an order of magnitude slower; it is also used for ids that NavigationEnv does not run.
    """

    family: str = "layout"
    train: int = bounded(64, low=1)
    engine: str = bounded("fast", choices=("fast", "exact", "original"))

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily."""
        return Task("layout", task_id, layout_seed=self.first_layout + task_id, cost_limit=cost_limit)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        # imported here, because Safety-Gymnasium takes seconds to import and other families do not need it
        from cmaml_pl.envs.navigation import UnsupportedTaskError
        from cmaml_pl.envs.safety_gymnasium import ParallelSafetyEnv

        if self.engine != "original":
            try:
                return super().make_env(num_tasks, num_envs, horizon=horizon, workers=workers)
            except UnsupportedTaskError as reason:
                logger.warning("%s. Safety-Gymnasium itself runs it, an order of magnitude slower.", reason)
        return ParallelSafetyEnv(self.env_id, num_tasks, num_envs, horizon=horizon, num_workers=workers, near=self.near)
