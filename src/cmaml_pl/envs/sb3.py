"""The engines' worlds as a VecEnv of Stable-Baselines3, which is imported with this module."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .vector import EngineVectorEnv, make_vec

try:
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor
except ImportError as error:
    raise UserError(
        f"Stable-Baselines3 cannot be imported ({error}): install it with `pip install 'stable-baselines3>=2.9,<3'`."
    ) from error


def make_sb3_vec(
    id: str, num_envs: int = 64, mode: str = "fast", seed: int | None = None, **options: Any
) -> VecMonitor:
    """The worlds of `make_vec`, whose arguments it has, as a VecEnv of Stable-Baselines3 that counts episodes.

    The cost of a step is in its `info`, under "cost".
    """
    return VecMonitor(as_sb3(make_vec(id, num_envs, mode, seed, **options)))


def as_sb3(env: EngineVectorEnv) -> VecEnv:
    """An environment of `make_vec` as a VecEnv of Stable-Baselines3, which closes it."""
    return EngineVecEnv(env)


class EngineVecEnv(VecEnv):
    """Worlds of an engine with the interface of Stable-Baselines3.

    Args:
        env: the worlds; with ``cost="return"`` as well as without.
    """

    def __init__(self, env: EngineVectorEnv) -> None:
        self.env: Any = env  # Gymnasium's methods have no types
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> NDArray[np.float64]:
        """See VecEnv; the seeds of `VecEnv.seed` count once."""
        observation: NDArray[np.float64] = self.env.reset(seed=self._seeds)[0]
        self._reset_seeds()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """See VecEnv."""
        self.env.step_async(actions)

    def step_wait(self) -> tuple[Any, ...]:
        """See VecEnv."""
        observation, reward, *_, terminated, truncated, told = self.env.step_wait()
        ended, limits = terminated | truncated, truncated & ~terminated
        pairs = zip(told["cost"].tolist(), limits.tolist(), strict=True)
        infos: list[dict[str, Any]] = [{"cost": cost, "TimeLimit.truncated": limit} for cost, limit in pairs]
        for world in np.flatnonzero(ended):
            infos[world]["terminal_observation"] = told["final_observation"][world]
        return observation, reward.astype(np.float32), ended, infos

    def close(self) -> None:
        """See VecEnv."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """See VecEnv; only world 0 is drawn."""
        return [self.env.render()]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """See VecEnv; all worlds have the attributes of the vector environment."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """See EngineVectorEnv.call_async."""
        self.env.set_attr(attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """See EngineVectorEnv.call_async."""
        return [self.env.call(method_name)]

    def env_is_wrapped(self, wrapper_class: Callable[..., Any], indices: Any = None) -> list[bool]:
        """See VecEnv; no world is wrapped."""
        return [False for _ in self._get_indices(indices)]
