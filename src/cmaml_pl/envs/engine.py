"""The common base of the environments whose worlds run in this process, as one batch."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase

from cmaml_pl.bounds import check_choice, check_counts
from cmaml_pl.cores import usable_cores
from cmaml_pl.envs.base import Arrays, TaskEnv, set_specs, state_tensordict
from cmaml_pl.envs.safety_gymnasium_ids import check_env_id
from cmaml_pl.envs.worlds import BatchedWorlds


class EngineEnv(TaskEnv):
    """Worlds of one Safety-Gymnasium id, batch size [num_tasks, num_envs], all in this process.

    In addition to the keys of TaskEnv there is ``cost`` (tasks, envs, 1), which is 0 after a reset; the cost of a step
    is ("next", "cost"). If the physics of a world fails, its episode is truncated, with the observation from before it;
    `failures` counts these episodes.

    Args:
        env_id: Safety-Gymnasium id.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        mode: one of `modes`.
        num_threads: threads of the physics, including that of the caller; None for one per usable core. The number does
            not change any result.
        horizon: steps after which an episode is truncated, at most the id's own limit; None for the id's own limit.
        dtype: dtype of observations, rewards and costs; the physics always uses float64.
        reveal: see TaskEnv; it needs tasks.

    Raises:
        UserError: Safety-Gymnasium is missing or has no such id, or an argument is out of its range.
    """

    divides_numbers = True
    modes: ClassVar[Sequence[str]] = ("fast", "exact")
    worlds: BatchedWorlds

    def __init__(
        self,
        env_id: str,
        num_tasks: int,
        num_envs: int,
        mode: str,
        num_threads: int | None,
        *,
        horizon: int | None,
        dtype: torch.dtype,
        reveal: Sequence[str],
    ) -> None:
        check_counts(num_tasks=num_tasks, num_envs=num_envs, num_threads=num_threads)
        check_choice("mode", mode, self.modes)
        self.horizon = check_env_id(env_id, horizon)
        super().__init__(batch_size=torch.Size([num_tasks, num_envs]))
        self.env_id, self.mode, self.reveal, self._dtype = env_id, mode, tuple(reveal), dtype
        self.num_threads = usable_cores() if num_threads is None else num_threads

    def _declare(self, *, observation_size: int, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        """Declare the keys: the length of an observation without what is revealed, and the bounds of actions."""
        bounds = {"low": torch.as_tensor(low), "high": torch.as_tensor(high)}
        set_specs(self, observation_size=observation_size + len(self.reveal), **bounds, dtype=self._dtype)
        self._observation = np.zeros((self.batch_size.numel(), observation_size))  # without what is revealed

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """See TaskEnv."""
        return {name: xy.reshape(*self.batch_size, *xy.shape[1:]) for name, xy in self.worlds.named_positions().items()}

    def geometry(self, task: int, env: int) -> NDArray[np.float64]:
        """See TaskEnv; the geoms are those of `worlds.physics.model`."""
        return self.worlds.physics.geometry(task * self.batch_size[1] + env)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        chosen = np.ones(self.batch_size.numel(), np.bool_)
        if tensordict is not None and "_reset" in tensordict.keys():
            chosen = tensordict["_reset"].reshape(-1).cpu().numpy()
        if chosen.any():
            self.worlds.reset(np.flatnonzero(chosen))
        nothing = np.zeros(len(chosen))
        never = nothing.astype(np.bool_)
        state: Arrays = {"observation": self.worlds.observe(), "cost": nothing}
        return self._tensordict({**state, "terminated": never, "truncated": never})

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        actions = tensordict["action"].detach().flatten(0, 1).cpu().numpy().astype(np.float64)
        outcome, before = self.worlds.step(actions), self._observation
        self.failures += int(outcome.failed.sum())
        return self._tensordict(
            {
                "observation": np.where(outcome.failed[:, None], before, self.worlds.observe()),
                "reward": outcome.reward,
                "cost": outcome.cost,
                "terminated": outcome.terminated,
                "truncated": outcome.truncated,
            }
        )

    def _tensordict(self, state: Arrays) -> TensorDict:
        self._observation = state["observation"]
        found = state_tensordict(state, self.batch_size, self._dtype)
        return found.set("observation", self._with_revealed(found["observation"]))

    def _set_seed(self, seed: int | None) -> None:
        """Seed the random streams of the worlds."""
        if seed is not None:
            self.worlds.seed_streams(seed)
