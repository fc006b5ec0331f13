"""The family whose tasks differ in which objects cost, and in how much cost is allowed."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import LIMIT, TaskEnv
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.navigation import NavigationFamily


@dataclass(frozen=True, kw_only=True)
class ConstraintFamily(NavigationFamily, RangedFamily):
    """Safety-Gymnasium's own task, where each task has a fixed layout, its own costly objects and its own limit d^p.

    A task chooses which of the `groups` cost; every non-empty choice is equally likely. `cost_hazards` = 1 with
    `cost_vases` = 0 is one task, and the reverse is another one. The two are in conflict: the objects that one has to
    go around are a short cut for the other. All groups are observed, and only the cost tells which of them count. A
    group that is not in `groups` costs as Safety-Gymnasium's id defines it.

    The paper assumes the same cost function in all tasks, so that one global safety critic can serve all of them. In
    this family the cost functions differ, and the critic learns what a place costs on average over the tasks.

    Attributes:
        groups: the kinds of objects that cost in some tasks and not in others.
        limit_factors: range of d^p divided by the configuration's cost limit (inner.cost_limit); drawn uniformly.
        outside_limit_factors: the wider range, for test tasks outside the training range.
    """

    family: str = "constraint"
    groups: list[str] = bounded(["hazards", "vases"])
    limit_factors: list[float] = bounded([0.5, 1.5], low=0)
    outside_limit_factors: list[float] = bounded([0.2, 2.5], low=0)

    def __post_init__(self) -> None:
        """Check the groups and the ranges."""
        super().__post_init__()
        if not self.groups or len(set(self.groups)) < len(self.groups):
            raise UserError(f"tasks.groups is {self.groups}, but must name a kind of object, and each only once.")
        self.check_ranges("limit_factors", self.limit_factors, self.outside_limit_factors)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; weights of costs, and the limit as a share of the configuration's."""
        return (*(f"cost_{name}" for name in self.groups), LIMIT)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily; the task's limit is its factor times `cost_limit`."""
        rng = np.random.default_rng([5, task_id])  # the stream of the constraints; the layout has another one
        factor = self.draw(rng, task_id, self.limit_factors, self.outside_limit_factors)
        choice = int(rng.integers(1, 2 ** len(self.groups)))  # bit i says whether group i costs
        weights = {f"cost_{name}": float(choice >> i & 1) for i, name in enumerate(self.groups)}
        return Task("constraint", task_id, self.first_layout + task_id, factor * cost_limit, weights, factor)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily.

        Raises:
            UserError: one of `groups` cannot cost in the tasks of `env_id`.
        """
        from cmaml_pl.envs.navigation import NavigationEnv  # imported here, as in NavigationFamily

        env = super().make_env(num_tasks, num_envs, horizon=horizon, workers=workers)
        assert isinstance(env, NavigationEnv), "the engine has no other"
        for name in self.groups:
            if name not in env.cost_groups:
                raise UserError(
                    f"tasks.groups has {name!r}, but what can cost in {self.env_id} is {', '.join(env.cost_groups)}."
                    f"{did_you_mean(name, env.cost_groups)}"
                )
        return env
