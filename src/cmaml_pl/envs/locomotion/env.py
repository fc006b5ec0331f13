"""Safety-Gymnasium's velocity tasks as one batched TorchRL environment."""

from collections.abc import Sequence

import numpy as np
import torch

from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.envs.locomotion.definition import read_definition
from cmaml_pl.envs.locomotion.worlds import LocomotionWorlds
from cmaml_pl.envs.locomotion_rules import FACTORS, GOALS, Rules
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task


class LocomotionEnv(EngineEnv):
    """Worlds of one velocity task of Safety-Gymnasium, batch size [num_tasks, num_envs], all in this process.

    The bodies are HalfCheetah, Hopper, Walker2d, Ant and Humanoid; MuJoCo 3.17 refuses Swimmer's model. A step costs 1
    if the body is faster than the id's threshold. An episode ends when a body that can fall has fallen. Models,
    rewards, costs, starts and observations are those of safety_gymnasium, and the numbers are the same. `rules` gives
    other rewards and costs.

    World i draws the starts of its episodes from a random stream seeded with `seed` + i, as in Safety-Gymnasium's
    vector environment. `set_tasks` gives row p a task, whose parameters are `mass`, `damping`, `gear` and `friction`:
    factors of masses and inertias, joint damping, actuator gears and the friction of contacts; and what the reward asks
    for, see Rules.

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
        rules: what a step is rewarded for, and what it costs.

    Raises:
        UserError: Safety-Gymnasium is missing, the id is no velocity task, its body has no such cost, or an argument is
            out of its range.
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
        rules: Rules = Rules(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__(env_id, num_tasks, num_envs, mode, num_threads, horizon=horizon, dtype=dtype, reveal=reveal)
        definition = read_definition(env_id)
        if rules.cost == "height" and not definition.has_head:
            raise UserError(f"tasks.cost is height, which only a HalfCheetah has: {env_id} takes velocity or control.")
        self.worlds = LocomotionWorlds(
            definition, self.batch_size.numel(), rules=rules, horizon=self.horizon, num_threads=self.num_threads
        )
        self.worlds.seed_streams(seed)
        bounds = definition.original.action_space
        self._declare(observation_size=definition.original.observation_space.shape[0], low=bounds.low, high=bounds.high)

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        goals = GOALS[self.worlds.rules.reward]
        for task in tasks:
            for name, value in task.parameters.items():
                if name not in FACTORS and name not in goals:
                    known = ", ".join([*FACTORS, *goals])
                    raise UserError(f"task {task.id} has {name!r}; {self.env_id} knows {known}.")
                if name in FACTORS and not value > 0:
                    raise UserError(f"{name} of task {task.id} is {value:g}, but a factor is more than 0.")
            if task.parameters.get("direction_y") and not self.worlds.definition.free:
                raise UserError(f"task {task.id} goes sideways, but {self.env_id} moves forward or backward only.")
        defaults = {**dict.fromkeys(FACTORS, 1.0), **goals}
        values = np.array([[task.parameters.get(name, own) for name, own in defaults.items()] for task in tasks])
        values = values.repeat(self.batch_size[1], axis=0)
        self.worlds.factors, self.worlds.goals = values[:, : len(FACTORS)], values[:, len(FACTORS) :]

    def _set_seed(self, seed: int | None) -> None:
        """See EngineEnv; a row's starts do not depend on the number of processes."""
        tasks, envs = self.batch_size
        self.worlds.first_stream = self.ranks.part(tasks).start * envs
        super()._set_seed(seed)
