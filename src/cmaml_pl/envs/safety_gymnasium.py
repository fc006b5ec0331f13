"""Safety-Gymnasium's own tasks, by id, as one batched environment; worker processes step its worlds."""

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cmaml_pl.envs.nearness import check_near
from cmaml_pl.envs.safety_gymnasium_ids import check_env_id
from cmaml_pl.envs.safety_gymnasium_worker import SafetyWorld
from cmaml_pl.envs.worker_env import WorkerEnv
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

THINGS = r"agent|goal|push_box|(hazard|vase|pillar|button|gremlin)\d+(?:obj)?"
"""Pattern of the names of the bodies that `positions` gives. Its group matches the kind of bodies with a number."""


class ParallelSafetyEnv(WorkerEnv):
    """Worlds of one Safety-Gymnasium task, batch size [tasks, envs], distributed over worker processes.

    A task's layout seed seeds Safety-Gymnasium on every reset, also on automatic ones. So all episodes of a task start
    from the same layout, and new goals are drawn from the same random stream. Nothing else is random.

    The cost is an indicator, 0 or 1, unless the id's task defines it otherwise. A step in which MuJoCo fails truncates
    the episode, with a cost of 1 and the task's `reward_exception` as reward.

    Args:
        env_id: Safety-Gymnasium id, e.g. SafetyPointGoal1-v0.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps after which an episode is truncated; at most the id's own limit.
        num_workers: see WorkerEnv.
        near: see NavigationEnv.

    Raises:
        UserError: Safety-Gymnasium is missing, has no such id, or ends the id's episodes before `horizon`; or `near`
            is no length.
    """

    def __init__(
        self,
        env_id: str,
        num_tasks: int,
        num_envs: int,
        horizon: int = 1000,
        num_workers: int | None = None,
        near: float | None = None,
    ) -> None:
        check_env_id(env_id, horizon)
        check_near(near)
        make = partial(SafetyWorld, env_id, horizon, near)
        super().__init__(make, env_id, num_tasks, num_envs, horizon=horizon, num_workers=num_workers)

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.parameters:
                names = ", ".join(task.parameters)
                raise UserError(f"task {task.id} has parameters ({names}), which only NavigationEnv can give an agent.")
        super()._set_tasks(tasks)

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """See TaskEnv. The kinds are named as NavigationEnv names them."""
        worlds = self.body_positions()
        kinds: dict[str, list[str]] = {}
        for body in worlds[0]:
            thing = re.fullmatch(THINGS, body)
            if thing:
                kinds.setdefault(f"{thing[1]}s" if thing[1] else body, []).append(body)
        kinds.setdefault("agent", list(worlds[0])[1:2])  # body 0 is the world; a velocity task's robot is body 1
        return {
            kind: np.array([[world[body][:2] for body in bodies] for world in worlds]).reshape(*self.batch_size, -1, 2)
            for kind, bodies in kinds.items()
        }
