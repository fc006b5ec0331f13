"""A network that remembers what it has seen in an episode, by a GRU cell."""

import torch
from torch import nn


class Memory(nn.Module):
    """Mean and standard deviation of the actions for normalised observations, (samples, observation_size), and a state.

    `state_size` says that there is a state, (samples, width). It is 0 in the first step of an episode.
    """

    def __init__(self, observation_size, action_size, width=64):
        super().__init__()
        self.state_size = width
        self.cell = nn.GRUCell(observation_size, width)
        self.body = nn.Sequential(nn.Linear(observation_size + width, width), nn.Tanh())
        self.head = nn.Linear(width, action_size)
        self.log_std = nn.Parameter(torch.zeros(action_size))
        nn.init.normal_(self.head.weight, std=0.01)  # at first, actions are near 0
        nn.init.zeros_(self.head.bias)

    def forward(self, x, state):
        """One time step."""
        state = self.cell(x, state)
        features = self.body(torch.cat([x, state], dim=-1))
        return self.head(features), self.log_std.exp(), state
