"""The code of one worker process of ParallelSafetyEnv, which steps its share of the worlds one after the other."""

import signal
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchrl._utils
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import EnvBase
from torchrl.envs.libs.safety_gymnasium import SafetyGymnasiumWrapper

from cmaml_pl.envs.base import Arrays, set_specs, state_tensordict
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError

EXCEPTION_COST = 1.0
"""Cost of a step in which the physics failed; Safety-Gymnasium reports the same number as `cost_exception`."""
_IDLE_LIMIT = 2e6
"""Seconds that a worker waits for its next command: about 23 days, the longest time that poll(2) accepts."""


def start_worker(env_id: str, num_envs: int, horizon: int, share: int, index: int) -> "WorldShare":
    """The worlds of this worker process; it is called in the worker, with the arguments of WorldShare."""
    # Ctrl-C reaches the whole process group. Workers ignore it, because the parent handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # TorchRL's default is 10,000 s, which may be less than the time between two validations.
    torchrl._utils.BATCHED_PIPE_TIMEOUT = _IDLE_LIMIT
    return WorldShare(env_id, num_envs, horizon, share, index)


class WorldShare(EnvBase):
    """The worlds ``index * share`` to ``(index + 1) * share - 1`` of a batch (tasks, envs), counted row by row.

    The batch size is [share]; keys and units are those of ParallelSafetyEnv.

    Each world is wrapped by TorchRL's SafetyGymnasiumWrapper, which gives the specs, resets the world and reads the
    tuple that a step returns. The wrapper's own `step` is not used, because it makes TensorDicts for every single
    world, which takes about half as long as a step of PointGoal1. One set of arrays for all worlds costs nearly
    nothing.

    Args:
        env_id: Safety-Gymnasium id.
        num_envs: number of worlds of each task.
        horizon: steps of an episode.
        share: number of worlds of this worker.
        index: number of this worker, from 0.
    """

    def __init__(self, env_id: str, num_envs: int, horizon: int, share: int, index: int) -> None:
        super().__init__(batch_size=torch.Size([share]))
        safety_gymnasium = import_safety_gymnasium()
        # Construction draws a seed from NumPy's global state. No layout depends on it: every reset is given a seed.
        self._worlds = [
            SafetyGymnasiumWrapper(safety_gymnasium.make(env_id, max_episode_steps=horizon, disable_env_checker=True))
            for _ in range(share)
        ]
        self._env_id = env_id
        self._mine = slice(index * share, (index + 1) * share)
        self._rows = [(index * share + i) // num_envs for i in range(share)]
        self._layouts: list[int] | None = None
        bounds = self._worlds[0].action_spec.space
        # float32 as the actions, so that clipping does not change an action that is within the bounds
        self._low, self._high = bounds.low.float().numpy(), bounds.high.float().numpy()
        self._state: Arrays = {
            "observation": np.zeros((share, *self._worlds[0].observation_spec["observation"].shape), np.float32),
            "reward": np.zeros((share, 1), np.float32),
            "cost": np.zeros((share, 1), np.float32),
            "terminated": np.zeros((share, 1), np.bool_),
            "truncated": np.zeros((share, 1), np.bool_),
            "failed": np.zeros((share, 1), np.bool_),
        }
        low, high = torch.from_numpy(self._low), torch.from_numpy(self._high)
        set_specs(self, observation_size=self._state["observation"].shape[-1], low=low, high=high)

    def perform(self, method: str, *arguments: Any) -> Any:
        """The result of a method of this object; an error of the method is returned, not raised.

        A raised error would end the worker process, and the parent would not learn the reason.
        """
        try:
            return getattr(self, method)(*arguments)
        except UserError as error:
            return error
        except Exception:  # noqa: BLE001  (the parent raises it, whatever it is)
            return RuntimeError(f"a world of {self._env_id} failed in its worker process:\n{traceback.format_exc()}")

    def set_layouts(self, layout_seeds: Sequence[int]) -> None:
        """Give this worker's worlds the layouts of their tasks; `layout_seeds` holds a seed per task of the batch."""
        self._layouts = [layout_seeds[row] for row in self._rows]

    def reset_worlds(self, chosen: NDArray[np.bool_]) -> Arrays:
        """Reset the chosen worlds, each to its task's layout.

        Args:
            chosen: which worlds of the whole batch to reset, (tasks * envs,).

        Returns:
            Key -> array (share, ...) for all worlds of this worker, also for those that were not reset.
        """
        if self._layouts is None:
            raise UserError("the environment has no tasks yet: call set_tasks before the first reset.")
        for i in np.flatnonzero(chosen[self._mine]):
            self._state["observation"][i] = self._first_observation(i, self._layouts[i])
            for key in ("reward", "cost", "terminated", "truncated", "failed"):
                self._state[key][i] = 0
        return self._state

    def _first_observation(self, i: int, layout_seed: int) -> NDArray[np.float32]:
        try:
            # every reset is given the seed, because without one safety_gymnasium would draw a new layout
            first = self._worlds[i].reset(seed=layout_seed)
        except AssertionError as error:  # raised as ResamplingError, and for a start that already has a cost
            raise UserError(
                f"{self._env_id} has no valid layout for layout seed {layout_seed} ({error}): leave that seed out."
            ) from error
        observation: NDArray[np.float32] = first["observation"].float().numpy()
        return observation

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
        state = self._state
        for i, world in enumerate(self._worlds):
            try:
                observation, reward, terminated, truncated, _, _ = world._output_transform(world._env.step(clipped[i]))
            except Exception as error:
                if not _is_physics_failure(error):
                    raise
                self._end_failed_episode(i)
                continue
            state["observation"][i] = observation
            state["reward"][i] = reward
            state["cost"][i] = world._last_cost.item()
            state["terminated"][i] = terminated
            state["truncated"][i] = truncated

    def _end_failed_episode(self, i: int) -> None:
        """End the episode of a world whose physics failed; its last observation is kept, as there is no new one."""
        builder = self._worlds[i]._env.unwrapped
        builder.truncated = True
        self._state["reward"][i] = builder.task.reward_conf.reward_exception
        self._state["cost"][i] = EXCEPTION_COST
        self._state["terminated"][i] = False
        self._state["truncated"][i] = self._state["failed"][i] = True

    def body_positions(self) -> list[dict[str, NDArray[np.float64]]]:
        """Name of a body -> its current position, (3,), m, for each world of this worker."""
        return [_body_positions(world._env.unwrapped) for world in self._worlds]

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
        """Does nothing, because a layout seed determines everything that a world draws."""

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the worlds."""
        for world in self._worlds:
            world.close(raise_if_closed=False)
        super().close(raise_if_closed=raise_if_closed)


def _is_physics_failure(error: Exception) -> bool:
    """Whether a world's step raised this error because MuJoCo failed.

    Safety-Gymnasium's Builder.step should then end the episode, but its code for this has two faults. It forgets to set
    `cost`, which raises an UnboundLocalError; and it catches an exception that mujoco has replaced by FatalError.
    """
    import mujoco  # imported here, so that this module can be imported where Safety-Gymnasium is missing

    return isinstance(error, mujoco.FatalError) or (isinstance(error, UnboundLocalError) and "'cost'" in str(error))


def _body_positions(env: Any) -> dict[str, NDArray[np.float64]]:
    physics = getattr(env, "task", env)  # Builder has the physics in its task, the velocity tasks have it themselves
    return {physics.model.body(i).name: physics.data.xpos[i].copy() for i in range(physics.model.nbody)}
