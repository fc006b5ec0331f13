"""The code of one worker process of a WorkerEnv, which steps its share of the worlds one after the other."""

import signal
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torchrl._utils
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase

from cmaml_pl.envs.base import Arrays, set_specs, state_tensordict
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

_IDLE_LIMIT = 2e6
"""Seconds that a worker waits for its next command: about 23 days, the longest time that poll(2) accepts."""


class World(ABC):
    """One environment in a worker process.

    Attributes:
        low: smallest action, (A,), float32; infinite if actions are not bounded.
        high: largest action, (A,), float32.
        observation_size: D, length of an observation.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    observation_size: int

    @abstractmethod
    def set_task(self, task: Task) -> None:
        """Give the world its task; it holds from the next reset on."""

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Seed what the world draws."""

    @abstractmethod
    def reset(self) -> NDArray[Any]:
        """Start an episode, and return its first observation, (D,)."""

    @abstractmethod
    def step(self, action: NDArray[np.float32]) -> dict[str, Any]:
        """Step once with an action within the bounds, (A,).

        Returns:
            The changes among "observation", "reward", "cost", "terminated", "truncated" and "failed".
        """

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """Name of a body -> its current position, (3,), m; empty, as here, if it is not known."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Close the world."""


MakeWorld = Callable[[], World]


def start_worker(make: MakeWorld, name: str, num_envs: int, share: int, index: int) -> "WorldShare":
    """The worlds of this worker process; it is called in the worker, with the arguments of WorldShare."""
    # Ctrl-C reaches the whole process group. Workers ignore it, because the parent handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # TorchRL's default is 10,000 s, which may be less than the time between two validations.
    torchrl._utils.BATCHED_PIPE_TIMEOUT = _IDLE_LIMIT
    return WorldShare(make, name, num_envs, share, index)


class WorldShare(EnvBase):
    """The worlds ``index * share`` to ``(index + 1) * share - 1`` of a batch (tasks, envs), counted row by row.

    The batch size is [share]; keys and units are those of WorkerEnv. One set of arrays for all worlds costs nearly
    nothing; TensorDicts for every single world would take about half as long as a step of PointGoal1.

    Args:
        make: makes a world.
        name: what the worlds are, for messages.
        num_envs: number of worlds of each task.
        share: number of worlds of this worker.
        index: number of this worker, from 0.
    """

    def __init__(self, make: MakeWorld, name: str, num_envs: int, share: int, index: int) -> None:
        super().__init__(batch_size=torch.Size([share]))
        self._worlds = [make() for _ in range(share)]
        self._name = name
        self._mine = slice(index * share, (index + 1) * share)
        self._rows = [(index * share + i) // num_envs for i in range(share)]
        self._has_tasks = False
        world = self._worlds[0]
        self._low, self._high = world.low, world.high
        self._state: Arrays = {
            "observation": np.zeros((share, world.observation_size), np.float32),
            "reward": np.zeros((share, 1), np.float32),
            "cost": np.zeros((share, 1), np.float32),
            "terminated": np.zeros((share, 1), np.bool_),
            "truncated": np.zeros((share, 1), np.bool_),
            "failed": np.zeros((share, 1), np.bool_),
        }
        low, high = torch.from_numpy(self._low), torch.from_numpy(self._high)
        set_specs(self, observation_size=world.observation_size, low=low, high=high)

    def perform(self, method: str, *arguments: Any) -> Any:
        """The result of a method of this object; an error of the method is returned, not raised.

        A raised error would end the worker process, and the parent would not learn the reason.
        """
        try:
            return getattr(self, method)(*arguments)
        except UserError as error:
            return error
        except Exception:  # noqa: BLE001  (the parent raises it, whatever it is)
            return RuntimeError(f"a world of {self._name} failed in its worker process:\n{traceback.format_exc()}")

    def set_world_tasks(self, tasks: Sequence[Task]) -> None:
        """Give this worker's worlds their tasks, of all tasks of the batch."""
        for world, row in zip(self._worlds, self._rows, strict=True):
            world.set_task(tasks[row])
        self._has_tasks = True

    def seed_worlds(self, seed: int) -> None:
        """Seed world i of the batch with `seed` + i."""
        for i, world in enumerate(self._worlds, start=self._mine.start):
            world.seed(seed + i)

    def reset_worlds(self, chosen: NDArray[np.bool_]) -> Arrays:
        """Reset the chosen worlds.

        Args:
            chosen: which worlds of the whole batch to reset, (tasks * envs,).

        Returns:
            Key -> array (share, ...) for all worlds of this worker, also for those that were not reset.
        """
        if not self._has_tasks:
            raise UserError("the environment has no tasks yet: call set_tasks before the first reset.")
        for i in np.flatnonzero(chosen[self._mine]):
            self._state["observation"][i] = self._worlds[i].reset()
            for key in ("reward", "cost", "terminated", "truncated", "failed"):
                self._state[key][i] = 0
        return self._state

    def step_worlds(self, actions: NDArray[np.float32]) -> Arrays:
        """Step every world once.

        Args:
            actions: actions of all worlds of the batch, (tasks * envs, A); they are clipped to the action space.

        Returns:
            Key -> array (share, ...) for all worlds of this worker.
        """
        self._advance(actions[self._mine])
        return self._state

    def _advance(self, actions: NDArray[np.float32]) -> None:
        clipped = np.clip(actions, self._low, self._high)
        for i, world in enumerate(self._worlds):
            for key, value in world.step(clipped[i]).items():
                self._state[key][i] = value

    def body_positions(self) -> list[dict[str, NDArray[np.float64]]]:
        """Name of a body -> its current position, (3,), m, for each world of this worker."""
        return [world.positions() for world in self._worlds]

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        chosen = np.ones(self._mine.stop, np.bool_)
        if tensordict is not None and "_reset" in tensordict.keys():
            chosen[self._mine] = tensordict["_reset"].numpy().reshape(-1)
        self.reset_worlds(chosen)
        return self._tensordict().exclude("reward")

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._advance(tensordict["action"].numpy())
        return self._tensordict()

    def _tensordict(self) -> TensorDict:
        return state_tensordict(self._state, self.batch_size).exclude("failed")

    def _set_seed(self, seed: int | None) -> None:
        """Does nothing: WorkerEnv seeds the worlds of all workers by `seed_worlds`."""

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the worlds."""
        for world in self._worlds:
            world.close()
        super().close(raise_if_closed=raise_if_closed)
