"""A point mass on a line, in a wind that it does not sense. Leaving the track costs; a TorchRL environment."""

import torch
from tensordict import TensorDict
from torchrl.data import Binary, Bounded, Composite, Unbounded
from torchrl.envs import EnvBase


class PointMass(EnvBase):
    """`wind` is the acceleration that a task hides, m/s^2; the track ends `track` m from the start."""

    def __init__(self, wind, track=0.5):
        super().__init__()
        self.wind, self.track = wind, track
        self.observation_spec = Composite(observation=Unbounded(2), cost=Unbounded(1))  # position, m; velocity, m/s
        self.action_spec = Bounded(-1.0, 1.0, (1,))  # acceleration, m/s^2
        self.reward_spec = Unbounded(1)
        self.done_spec = Composite({key: Binary(1, dtype=torch.bool) for key in ("done", "terminated")})

    def _reset(self, tensordict=None, **kwargs):
        self.state = torch.cat([0.05 * torch.randn(1, generator=self.numbers), torch.zeros(1)])
        return TensorDict({"observation": self.state, "cost": torch.zeros(1), **self.ends(False)})

    def _step(self, tensordict):
        position, velocity = self.state.split(1)
        velocity = velocity + 0.1 * (tensordict["action"] + self.wind)
        self.state = torch.cat([position + 0.1 * velocity, velocity])
        away = self.state[:1].abs()
        cost = (away > self.track).float()  # 1 for each step off the track
        return TensorDict({"observation": self.state, "reward": -away, "cost": cost, **self.ends(bool(away > 2))})

    def _set_seed(self, seed):
        self.numbers = torch.Generator().manual_seed(seed)

    def ends(self, end):
        """The flags of an episode that ends, or not."""
        return {key: torch.tensor([end]) for key in ("done", "terminated")}
