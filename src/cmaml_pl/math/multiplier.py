"""The update of a Lagrange multiplier."""

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
