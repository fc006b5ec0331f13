"""A drone flies along a corridor, in a wind that it does not sense. Leaving the corridor costs."""

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class WindyCorridor(gymnasium.Env):
    """A point mass; `wind_x` and `wind_y` are the accelerations that a task hides, m/s^2."""

    wind_x = 0.0
    wind_y = 0.0

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)  # position, m, and velocity, m/s
    action_space = Box(-1.0, 1.0, (2,), np.float32)  # acceleration, m/s^2

    def reset(self, *, seed=None, options=None):
        """Start near the origin."""
        super().reset(seed=seed)
        self.position, self.velocity = self.np_random.normal(0.0, 0.05, 2), np.zeros(2)
        return self._observe(), {}

    def step(self, action):
        """A tenth of a second."""
        before = self.position[0]
        self.velocity = 0.9 * self.velocity + 0.1 * (action + np.array([self.wind_x, self.wind_y]))
        self.position = self.position + 0.1 * self.velocity
        reward = self.position[0] - before  # m along the corridor
        cost = float(abs(self.position[1]) > 0.3)  # 1 for each step outside of it
        return self._observe(), reward, False, False, {"cost": cost}

    def _observe(self):
        return np.concatenate([self.position, self.velocity]).astype(np.float32)


gymnasium.register("WindyCorridor-v0", WindyCorridor)
