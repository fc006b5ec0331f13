"""Adam for many tasks at once; every row of the stacked parameters has moments of its own."""

from collections.abc import Callable

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Decay of the two moments, and what keeps the quotient finite (the defaults of Adam's authors)."""


def adam_ascent(
    objective: Callable[[Tensor], tuple[Tensor, Tensor]],
    theta: Tensor,
    *,
    lr: float,
    steps: int,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Climb `objective` by Adam (Kingma & Ba 2015, algorithm 1), row by row, as long as it accepts where that leads.

    A row stops for good at the first candidate that is not accepted, and keeps the parameters before it. The moments
    start at 0. Each row does what Adam would do for it alone.

    Args:
        objective: parameters (tasks, P) -> what each row maximises, (tasks,), and whether they are accepted, bool
            (tasks,). It is called once for each candidate.
        theta: where the rows start, (tasks, P); not changed.
        lr: alpha, Adam's step size.
        steps: largest number of steps of a row.
        mask: 1 for the parameters that may move, 0 for the others, (P,); None lets all of them move.

    Returns:
        New parameters, (tasks, P), always a new tensor, and the share of the steps that a row has taken, (tasks,). A
        row without a gradient takes none.
    """
    x = theta.clone()
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    taken = torch.zeros(len(theta), dtype=theta.dtype, device=theta.device)
    open_rows = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
    leaf, total, _ = _evaluate(objective, theta)
    for t in range(1, steps + 1):
        # rows are independent, so the gradient of the sum is every row's own gradient
        (g,) = torch.autograd.grad(total, leaf)
        g = g if mask is None else mask * g
        m, v = BETA_1 * m + (1 - BETA_1) * g, BETA_2 * v + (1 - BETA_2) * g * g
        # theta_t = theta_{t-1} + alpha mhat / (sqrt(vhat) + epsilon), with the moments' bias corrected
        m_hat, v_hat = m / (1 - BETA_1**t), v / (1 - BETA_2**t)
        candidate = x + lr * m_hat / (v_hat.sqrt() + EPSILON)
        leaf, total, accepted = _evaluate(objective, candidate)
        open_rows = open_rows & (candidate != x).any(dim=1) & accepted
        if not open_rows.any():
            break
        x = torch.where(open_rows[:, None], candidate, x)
        taken = taken + open_rows
    return x, taken / steps


def _evaluate(objective: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A leaf with the value of `x`, the sum of `objective` over its rows, with its graph, and which are accepted."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        value, accepted = objective(leaf)
        return leaf, value.sum(), accepted
