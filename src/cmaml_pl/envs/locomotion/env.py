"""Safety-Gymnasium's velocity tasks as one batched TorchRL environment."""

from collections.abc import Sequence

import numpy as np
import torch

from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.envs.locomotion.definition import read_definition
from cmaml_pl.envs.locomotion.worlds import FACTORS, LocomotionWorlds
from cmaml_pl.envs.physics import Array
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task


class LocomotionEnv(EngineEnv):
    """Worlds of one velocity task of Safety-Gymnasium, batch size [num_tasks, num_envs], all in this process.

    The bodies are HalfCheetah, Hopper, Walker2d, Ant, Swimmer and Humanoid. A step costs 1 if the body is faster than
    the id's threshold. An episode ends when a body that can fall has fallen. Models, rewards, costs, starts and
    observations are those of safety_gymnasium, and the numbers are the same.

    World i draws the starts of its episodes from a random stream seeded with `seed` + i, as in Safety-Gymnasium's
    vector environment. `set_tasks` gives row p a task, whose parameters are `mass`, `damping` and `gear`: factors of
    masses and inertias, joint damping and actuator gears.

    Args:
        env_id: Safety-Gymnasium id, e.g. SafetyHopperVelocity-v1.
        num_tasks: see EngineEnv.
        num_envs: see EngineEnv.
        mode: "exact", the only one.
        num_threads: see EngineEnv.
        seed: seed of the starts until the environment is seeded otherwise.
        horizon: see EngineEnv.
        dtype: see EngineEnv.
        reveal: see EngineEnv.

    Raises:
        UserError: Safety-Gymnasium is missing, the id is no velocity task, or an argument is out of its range.
    """

    modes = ("exact",)
    worlds: LocomotionWorlds

    def __init__(
        self,
        env_id: str,
        num_tasks: int = 1,
        num_envs: int = 64,
        mode: str = "exact",
        num_threads: int | None = None,
        seed: int = 0,
        *,
        horizon: int | None = None,
        dtype: torch.dtype = torch.float32,
        reveal: Sequence[str] = (),
    ) -> None:
        super().__init__(env_id, num_tasks, num_envs, mode, num_threads, horizon=horizon, dtype=dtype, reveal=reveal)
        definition = read_definition(env_id)
        self.worlds = LocomotionWorlds(
            definition, self.batch_size.numel(), horizon=self.horizon, num_threads=self.num_threads
        )
        self.worlds.seed_streams(seed)
        bounds = definition.original.action_space
        self._declare(observation_size=definition.original.observation_space.shape[0], low=bounds.low, high=bounds.high)

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            for name, value in task.parameters.items():
                if name not in FACTORS:
                    raise UserError(f"task {task.id} has {name!r}; {self.env_id} knows {', '.join(FACTORS)}.")
                if not value > 0:
                    raise UserError(f"{name} of task {task.id} is {value:g}, but a factor is more than 0.")
        factors = [[task.parameters.get(name, 1.0) for name in FACTORS] for task in tasks]
        self.worlds.factors = np.array(factors).repeat(self.batch_size[1], axis=0)

    def _given(self, actions: Array) -> Array:
        """All of the actions, as the originals: the control cost counts what MuJoCo cuts off."""
        return actions

    def _set_seed(self, seed: int | None) -> None:
        """See EngineEnv; a row's starts do not depend on the number of processes."""
        tasks, envs = self.batch_size
        self.worlds.first_stream = self.ranks.part(tasks).start * envs
        super()._set_seed(seed)
