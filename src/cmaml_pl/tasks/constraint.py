"""The family whose task is what costs, and how much of it is allowed."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import LIMIT, TaskEnv
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import RangedFamily
from cmaml_pl.tasks.navigation import NavigationFamily
from cmaml_pl.tasks.ranges import check_ranges


@dataclass(frozen=True, kw_only=True)
class ConstraintFamily(NavigationFamily, RangedFamily):
    """Safety-Gymnasium's own task with a fixed layout and its own constraint: which objects cost, and the limit d^p.

    Every non-empty choice among `groups` is as likely as any other: `cost_hazards` = 1 and `cost_vases` = 0 is a task,
    and so is the reverse, which is in conflict with it: what the one has to go around is the other's short cut. All
    groups are observed, and only cost tells which of them count. Groups that are not named cost as the id has it.

    The paper takes the cost function to be the same in all tasks, so that one global safety critic can speak for all;
    here it is not, and the critic learns what a place costs on the average of the tasks.

    Attributes:
        groups: the kinds of objects that cost in some tasks and not in others.
        limit_factors: range of d^p, as a factor of the cost limit of the configuration (inner.cost_limit); uniform.
        outside_limit_factors: the wider range, which test tasks outside the training range come from.
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
        check_ranges("limit_factors", self.limit_factors, self.outside_limit_factors)

    def hidden_names(self) -> tuple[str, ...]:
        """See TaskFamily; weights of costs, and the limit as a share of the configuration's."""
        return (*(f"cost_{name}" for name in self.groups), LIMIT)

    def task(self, task_id: int, *, cost_limit: float) -> Task:
        """See TaskFamily; `cost_limit` is what the task's factor is of."""
        rng = np.random.default_rng([5, task_id])  # the constraints' stream; the layout has its own
        factor = self.draw(rng, task_id, self.limit_factors, self.outside_limit_factors)
        choice = int(rng.integers(1, 2 ** len(self.groups)))  # bit i says whether group i costs
        weights = {f"cost_{name}": float(choice >> i & 1) for i, name in enumerate(self.groups)}
        return Task("constraint", task_id, self.first_layout + task_id, factor * cost_limit, weights, factor)

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily; the groups are checked against what can cost there."""
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
