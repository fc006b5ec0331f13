"""What one worker process of ParallelSafetyEnv runs: its share of the worlds, stepped one after the other."""

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
"""Cost of a step in which the physics failed: what Safety-Gymnasium reports as `cost_exception`."""
_IDLE_LIMIT = 2e6
"""Seconds that a worker waits for its next command, about 23 days: the most that poll(2) takes."""


def start_worker(env_id: str, num_envs: int, horizon: int, share: int, index: int) -> "WorldShare":
    """Prepares the worker process that calls it and builds its worlds; arguments as WorldShare's."""
    # Ctrl-C reaches the whole process group, but only the parent decides what it means; it ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A worker gives up by itself after 10,000 s without a command, less than what may lie between two validations.
    torchrl._utils.BATCHED_PIPE_TIMEOUT = _IDLE_LIMIT
    return WorldShare(env_id, num_envs, horizon, share, index)


class WorldShare(EnvBase):
    """Worlds number ``index * share`` to ``(index + 1) * share - 1`` of a batch (tasks, envs), counted row by row.

    Batch size [share]; keys and units as ParallelSafetyEnv's.

    Each world is wrapped by TorchRL's SafetyGymnasiumWrapper, which gives the specs, resets the world and reads the
    tuple that a step returns. The wrapper's own `step` is left out: the TensorDicts that it makes for every single
    world take about as long as half a step of PointGoal1. One set of arrays for all worlds costs nearly nothing.

    Args:
        env_id: Safety-Gymnasium id.
        num_envs: worlds of each task.
        horizon: steps of an episode.
        share: worlds of this worker.
        index: number of this worker.
    """

    def __init__(self, env_id: str, num_envs: int, horizon: int, share: int, index: int) -> None:
        super().__init__(batch_size=torch.Size([share]))
        safety_gymnasium = import_safety_gymnasium()
        # Construction draws a seed from NumPy's global state, on which no layout depends: every reset brings its own.
        self._worlds = [
            SafetyGymnasiumWrapper(safety_gymnasium.make(env_id, max_episode_steps=horizon, disable_env_checker=True))
            for _ in range(share)
        ]
        self._env_id = env_id
        self._mine = slice(index * share, (index + 1) * share)
        self._rows = [(index * share + i) // num_envs for i in range(share)]
        self._layouts: list[int] | None = None
        bounds = self._worlds[0].action_spec.space
        # float32 as the actions are, so that clipping hands on the very numbers that it was given
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
        """Result of a method of this object, or, returned instead of raised, the error that it ended with.

        An error that left this process's loop would end it, and the parent would learn no more than that it is gone.
        """
        try:
            return getattr(self, method)(*arguments)
        except UserError as error:
            return error
        except Exception:  # noqa: BLE001  (whatever it is, the parent raises it)
            return RuntimeError(f"a world of {self._env_id} failed in its worker process:\n{traceback.format_exc()}")

    def set_layouts(self, layout_seeds: Sequence[int]) -> None:
        """Give this worker's worlds the layouts of their tasks; `layout_seeds` are those of all the batch's tasks."""
        self._layouts = [layout_seeds[row] for row in self._rows]

    def reset_worlds(self, chosen: NDArray[np.bool_]) -> Arrays:
        """Reset the chosen worlds, each to its task's layout.

        Args:
            chosen: which of all the batch's worlds, (tasks * envs,).

        Returns:
            Array of each key of this worker's worlds, chosen or not, (share, ...).
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
            # a seed on every reset: without one, safety_gymnasium would go on to a new layout
            first = self._worlds[i].reset(seed=layout_seed)
        except AssertionError as error:  # ResamplingError is one, and so is a start that already costs something
            raise UserError(
                f"{self._env_id} has no valid layout for layout seed {layout_seed} ({error}): leave that seed out."
            ) from error
        observation: NDArray[np.float32] = first["observation"].float().numpy()
        return observation

    def step_worlds(self, actions: NDArray[np.float32]) -> Arrays:
        """Step every world once.

        Args:
            actions: of all the batch's worlds, (tasks * envs, A); clipped to the action space.

        Returns:
            Array of each key of this worker's worlds, (share, ...).
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
        """End the episode of a world whose physics failed; its last observation stands, for there is no other."""
        builder = self._worlds[i]._env.unwrapped
        builder.truncated = True
        self._state["reward"][i] = builder.task.reward_conf.reward_exception
        self._state["cost"][i] = EXCEPTION_COST
        self._state["terminated"][i] = False
        self._state["truncated"][i] = self._state["failed"][i] = True

    def body_positions(self) -> list[dict[str, NDArray[np.float64]]]:
        """Where the bodies of each of this worker's worlds are now: name -> (3,), m."""
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
        """Nothing to seed: a layout seed decides everything that a world draws."""

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the worlds."""
        for world in self._worlds:
            world.close(raise_if_closed=False)
        super().close(raise_if_closed=raise_if_closed)


def _is_physics_failure(error: Exception) -> bool:
    """Whether a world's step ended with this error because MuJoCo failed, where Builder.step means to end the episode.

    Its branch for that forgets to set `cost` and so ends with an UnboundLocalError; and the branch waits for an
    exception that mujoco no longer raises: FatalError took its place.
    """
    import mujoco  # here, so that this module can be imported where Safety-Gymnasium is missing

    return isinstance(error, mujoco.FatalError) or (isinstance(error, UnboundLocalError) and "'cost'" in str(error))


def _body_positions(env: Any) -> dict[str, NDArray[np.float64]]:
    physics = getattr(env, "task", env)  # Builder keeps the physics in its task, the velocity worlds in themselves
    return {physics.model.body(i).name: physics.data.xpos[i].copy() for i in range(physics.model.nbody)}
