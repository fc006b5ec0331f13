"""Checkpoints of earlier versions, as this version would have written them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

FIRST_LAYER = "safety_critic.body.0.weight"
"""Of V_C; it reads the observation and, since V_C knows the time that is left in the episode, one number more."""


def upgrade(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint with what earlier versions did not have.

    - The meta-policy that is deployed was the newest one.
    - V_C did not know the time that is left; it gets a weight of 0. The values are those of before. A run that goes on
      learns what the time is worth.
    """
    state = content.get("state_dict")
    if not isinstance(state, dict) or FIRST_LAYER not in state or "actor.normaliser.mean" not in state:
        return content
    if "deployed" not in state:
        theta = [x.flatten() for name, x in state.items() if name.startswith(("actor.log_std", "actor.mean."))]
        state = {**state, "deployed": torch.cat(theta)}
        content = {**content, "state_dict": state}
    if state[FIRST_LAYER].shape[1] != len(state["actor.normaliser.mean"]):
        return content
    callbacks = dict(content.get("callbacks", {}))
    if "optimizer" in callbacks.get("SafetyCritic", {}):
        callbacks["SafetyCritic"] = {"optimizer": _with_time(callbacks["SafetyCritic"]["optimizer"])}
    return {**content, "state_dict": {**state, FIRST_LAYER: _pad(state[FIRST_LAYER])}, "callbacks": callbacks}


def _with_time(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """The state of V_C's optimiser, whose parameter 0 is the first layer."""
    first = {name: _pad(x) if x.ndim == 2 else x for name, x in optimizer["state"].get(0, {}).items()}
    return {**optimizer, "state": {**optimizer["state"], **({0: first} if first else {})}}


def _pad(weight: Tensor) -> Tensor:
    return torch.cat([weight, torch.zeros_like(weight[:, :1])], dim=1)
