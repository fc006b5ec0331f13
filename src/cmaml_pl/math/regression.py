"""Fits linear value functions in closed form."""

import torch
from torch import Tensor


def value_features(observation: Tensor) -> Tensor:
    """[o, o^2, 1] of normalised observations, (..., D) -> (..., 2 D + 1) (Duan et al. 2016, without the time)."""
    return torch.cat([observation, observation.square(), torch.ones_like(observation[..., :1])], dim=-1)


def ridge_regression(features: Tensor, target: Tensor, *, ridge: float) -> Tensor:
    """argmin_w mean (phi w - y)^2 + ridge |w|^2, one w per task.

    Args:
        features: phi, (tasks, samples, F).
        target: y, (tasks, samples, 1).
        ridge: penalty > 0; it makes the solution unique even with few samples.

    Returns:
        w, (tasks, F, 1).
    """
    samples, size = features.shape[1:]
    gram = features.mT @ features / samples + ridge * torch.eye(size, dtype=features.dtype, device=features.device)
    solution: Tensor = torch.linalg.solve(gram, features.mT @ target / samples)
    return solution
