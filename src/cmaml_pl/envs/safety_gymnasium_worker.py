"""A world of Safety-Gymnasium in a worker process."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchrl.envs.libs.safety_gymnasium import SafetyGymnasiumWrapper

from cmaml_pl.envs.nearness import Nearness
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.envs.worker import World
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

EXCEPTION_COST = 1.0
"""Cost of a step in which the physics failed; Safety-Gymnasium reports the same number as `cost_exception`."""


class SafetyWorld(World):
    """A world that goes back to its task's layout in every reset.

    It is wrapped by TorchRL's SafetyGymnasiumWrapper, which gives the specs, resets the world and reads the tuple that
    a step returns. The wrapper's own `step` is not used, because it makes TensorDicts.

    Args:
        env_id: Safety-Gymnasium id.
        horizon: steps of an episode.
        near: see NavigationEnv.
    """

    def __init__(self, env_id: str, horizon: int, near: float | None = None) -> None:
        safety_gymnasium = import_safety_gymnasium()
        # Construction draws a seed from NumPy's global state. No layout depends on it: every reset is given a seed.
        self.world = SafetyGymnasiumWrapper(
            safety_gymnasium.make(env_id, max_episode_steps=horizon, disable_env_checker=True)
        )
        self._env_id, self._layout_seed = env_id, 0
        bounds = self.world.action_spec.space
        # float32 as the actions, so that clipping does not change an action that is within the bounds
        self.low, self.high = bounds.low.float().numpy(), bounds.high.float().numpy()
        task = getattr(self.world._env.unwrapped, "task", None)  # velocity tasks have none, and no lidar
        self._nearness = Nearness(task, near) if near and task else None
        self.observation_size = self.world.observation_spec["observation"].shape[-1]
        self.observation_size += self._nearness.size if self._nearness else 0

    def set_task(self, task: Task) -> None:
        """See World."""
        self._layout_seed = task.layout_seed

    def seed(self, seed: int) -> None:
        """Does nothing, because a task's layout seed determines everything that its worlds draw."""

    def reset(self) -> NDArray[np.float32]:
        """See World."""
        try:
            # every reset is given the seed, because without one safety_gymnasium would draw a new layout
            first = self.world.reset(seed=self._layout_seed)
        except AssertionError as error:  # raised as ResamplingError, and for a start that already has a cost
            raise UserError(
                f"{self._env_id} has no valid layout for layout seed {self._layout_seed} ({error}): leave that seed "
                "out."
            ) from error
        return self._observed(first["observation"].numpy()).astype(np.float32)

    def step(self, action: NDArray[np.float32]) -> dict[str, Any]:
        """See World; a step in which the physics fails ends the episode, with the last observation."""
        world = self.world
        try:
            observation, reward, terminated, truncated, _, _ = world._output_transform(world._env.step(action))
        except Exception as error:
            if not _is_physics_failure(error):
                raise
            builder = world._env.unwrapped
            builder.truncated = True
            return {
                "reward": builder.task.reward_conf.reward_exception,
                "cost": EXCEPTION_COST,
                "terminated": False,
                "truncated": True,
                "failed": True,
            }
        return {
            "observation": self._observed(observation),
            "reward": reward,
            "cost": world._last_cost.item(),
            "terminated": terminated,
            "truncated": truncated,
        }

    def _observed(self, observation: NDArray[Any]) -> NDArray[Any]:
        """An observation, with the nearness if it is asked for."""
        return np.concatenate([observation, self._nearness.of(observation)]) if self._nearness else observation

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """See World."""
        env = self.world._env.unwrapped
        physics = getattr(env, "task", env)  # Builder has the physics in its task, velocity tasks have it themselves
        return {physics.model.body(i).name: physics.data.xpos[i].copy() for i in range(physics.model.nbody)}

    def close(self) -> None:
        """See World."""
        self.world.close(raise_if_closed=False)


def _is_physics_failure(error: Exception) -> bool:
    """Whether a world's step raised this error because MuJoCo failed.

    Safety-Gymnasium's Builder.step should then end the episode, but its code for this has two faults. It forgets to set
    `cost`, which raises an UnboundLocalError; and it catches an exception that mujoco has replaced by FatalError.
    """
    import mujoco  # imported here, so that this module can be imported where Safety-Gymnasium is missing

    return isinstance(error, mujoco.FatalError) or (isinstance(error, UnboundLocalError) and "'cost'" in str(error))
