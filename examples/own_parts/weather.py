"""Most tasks have a breeze and some a storm, which no range describes; a task family."""

from dataclasses import dataclass

import numpy as np

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.torchrl_env import TorchRLEnv
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import TaskFamily


@dataclass(frozen=True, kw_only=True)
class Weather(TaskFamily):
    """Point masses in a wind from either side. Its fields are the keys of the section `tasks`."""

    family: str = "weather:Weather"
    storms: float = bounded(0.25, low=0, high=1)  # share of the tasks that have a storm

    def hidden_names(self):
        """What an oracle is told, `tasks.observe_task=true`."""
        return ("wind",)

    def task(self, task_id, *, cost_limit):
        """The same number always gives the same task."""
        rng = np.random.default_rng(task_id)
        strength = rng.uniform(0.5, 0.8) if rng.uniform() < self.storms else rng.uniform(0.0, 0.2)  # m/s^2
        wind = float(rng.choice([-1.0, 1.0]) * strength)
        return Task(self.family, task_id, layout_seed=task_id, cost_limit=cost_limit, parameters={"wind": wind})

    def make_env(self, num_tasks, num_envs, *, horizon, workers):
        """Worlds of point_mass.py in worker processes; a TaskEnv of your own may stand here."""
        return TorchRLEnv(
            "point_mass:PointMass",
            num_tasks,
            num_envs,
            horizon=horizon,
            num_workers=workers,
            reveal=self.reveal,
            options={"wind": 0.0},  # what the first world is made with; a task's wind replaces it
        )
