"""Adam for many tasks at once; every row of the stacked parameters has moments of its own."""

import torch
from torch import Tensor

from cmaml_pl.math.natural_gradient import TaskFunction, rowwise_gradient

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
"""Decay of the two moments, and what keeps the quotient finite (the defaults of Adam's authors)."""


def adam_ascent(
    objective: TaskFunction, accept: TaskFunction, theta: Tensor, *, lr: float, steps: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Climb `objective` by Adam (Kingma & Ba 2015, algorithm 1), row by row, as long as `accept` holds.

    A row stops for good at the first candidate that is not accepted, and keeps the parameters before it. The moments
    start at 0. Each row does what Adam would do for it alone.

    Args:
        objective: what each row maximises, (tasks, P) -> (tasks,).
        accept: candidate parameters (tasks, P) -> bool (tasks,).
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
    for t in range(1, steps + 1):
        _, g = rowwise_gradient(objective, x)
        g = g if mask is None else mask * g
        m, v = BETA_1 * m + (1 - BETA_1) * g, BETA_2 * v + (1 - BETA_2) * g * g
        # theta_t = theta_{t-1} + alpha mhat / (sqrt(vhat) + epsilon), with the moments' bias corrected
        m_hat, v_hat = m / (1 - BETA_1**t), v / (1 - BETA_2**t)
        candidate = x + lr * m_hat / (v_hat.sqrt() + EPSILON)
        open_rows = open_rows & (candidate != x).any(dim=1) & accept(candidate)
        if not open_rows.any():
            break
        x = torch.where(open_rows[:, None], candidate, x)
        taken = taken + open_rows
    return x, taken / steps
