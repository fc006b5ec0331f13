"""What training_speed.py times: PPO by Stable-Baselines3 and by the example, on any vector environment."""

import math
import time
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch

from cmaml_pl import envs


class Trainer(Protocol):
    """PPO on some worlds; `updating` is the time of all its updates so far, s."""

    updating: float

    def train(self, steps: int) -> None:
        """Go on for `steps` environment steps, with an update after each batch."""


class StableBaselines:
    """Stable-Baselines3's PPO, with its defaults but for the sizes below.

    Args:
        env: a vector environment of Gymnasium with costs in its info.
        batch: environment steps of an update.
        minibatch: samples of a gradient; 64 is its default.

    Raises:
        UserError: Stable-Baselines3 is missing.
    """

    def __init__(self, env: Any, batch: int, minibatch: int = 64) -> None:
        adapted = envs.as_sb3(env)  # says how to install Stable-Baselines3
        from stable_baselines3 import PPO
        from stable_baselines3.common.vec_env import VecMonitor

        self.updating = 0.0
        steps = batch // env.num_envs
        sizes = {"n_steps": steps, "batch_size": minibatch}
        self._agent: Any = PPO("MlpPolicy", VecMonitor(adapted), seed=0, device="cpu", **sizes)
        self._update, self._agent.train = self._agent.train, self._timed_update

    def _timed_update(self) -> None:
        started = time.perf_counter()
        self._update()
        self.updating += time.perf_counter() - started

    def train(self, steps: int) -> None:
        """See Trainer."""
        self._agent.learn(steps, reset_num_timesteps=False)


class Example:
    """PPO-Lagrangian of examples/ppo_lagrangian.py with its own settings, or PPO.

    Args:
        env: a vector environment of Gymnasium with costs in its info.
        batch: environment steps of an update.
        limited: whether cost is limited. The multiplier is then 1 throughout: its value does not change the time.
    """

    def __init__(self, env: Any, batch: int, *, limited: bool) -> None:
        self._example: Any = import_module("examples.ppo_lagrangian")
        self._env, self._batch, self._weight = env, batch, float(limited)
        limit = {} if limited else {"cost_limit": math.inf}
        self._args = self._example.Args(num_envs=env.num_envs, num_steps=batch // env.num_envs, **limit)
        sizes = (env.single_observation_space.shape[0], env.single_action_space.shape[0])
        self.updating, self._agent = 0.0, self._example.Agent(*sizes)
        self._optimizer = torch.optim.Adam(self._agent.parameters(), lr=self._args.learning_rate, eps=1e-5)
        self._episode = np.zeros((env.num_envs, 2))
        self._observation, _ = env.reset(seed=0)

    def train(self, steps: int) -> None:
        """See Trainer."""
        for _ in range(steps // self._batch):
            with torch.no_grad():
                data, self._observation, _ = self._example.collect(
                    self._env, self._agent, self._observation, self._episode, self._args
                )
            started = time.perf_counter()
            self._example.update(self._agent, self._optimizer, data, self._weight, self._args)
            self.updating += time.perf_counter() - started
