"""A wider network with a residual block, whose exploration noise depends on the observation."""

import torch
from torch import nn


class Residual(nn.Module):
    """Mean and standard deviation of the actions for normalised observations, (..., observation_size)."""

    def __init__(self, observation_size, action_size, width=128):
        super().__init__()
        self.enter = nn.Linear(observation_size, width)
        self.block = nn.Sequential(nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
        self.head = nn.Linear(width, action_size)
        self.log_std = nn.Linear(width, action_size)
        for layer in (self.head, self.log_std):  # at first, actions are near 0 and their deviations near 1
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        """Deviations stay between 1/e and e."""
        x = self.enter(x)
        x = torch.tanh(x + self.block(x))
        return self.head(x), torch.tanh(self.log_std(x)).exp()
