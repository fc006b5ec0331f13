"""The updates of a Lagrange multiplier and of the weight of a penalty."""

import torch
from torch import Tensor


def ascend(multiplier: Tensor, cost: Tensor, limit: Tensor | float, *, lr: float, high: float) -> Tensor:
    """Projected dual ascent, lambda <- clip(lambda + lr (J_C - d), 0, high), any shape.

    Args:
        multiplier: lambda or eta, >= 0.
        cost: J_C, cost per episode in the unit of the limit.
        limit: d, same unit; with an infinite limit and lr > 0 the multiplier becomes 0.
        lr: step size, per unit of episode cost.
        high: largest allowed value.
    """
    if lr == 0.0:  # 0 times an infinite limit would be NaN
        return multiplier.clamp(0.0, high)
    return (multiplier + lr * (cost - limit)).clamp(0.0, high)


def scale_penalty(kappa: Tensor, over: Tensor, *, factor: float, low: float, high: float) -> Tensor:
    """Kappa times `factor` where `over`, kappa over `factor` elsewhere, within [low, high], any shape.

    Args:
        kappa: weight of a penalty, > 0.
        over: whether the limit is exceeded, bool, same shape.
        factor: at least 1.
        low: smallest allowed value.
        high: largest allowed value.
    """
    return torch.where(over, kappa * factor, kappa / factor).clamp(low, high)
