"""The trust-region step, for many tasks at once (Schulman et al. 2015, "Trust Region Policy Optimization", appendix C).

Every function works on stacked parameters (tasks, P): row p belongs to task p and never mixes with another row.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TaskFunction = Callable[[Tensor], Tensor]
"""Maps stacked parameters (tasks, P) to one number per task, (tasks,); row p of the result depends on row p alone."""


def rowwise_gradient(function: TaskFunction, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Value (tasks,) and gradient (tasks, P) of `function` at `theta` (tasks, P)."""
    leaf = theta.detach().requires_grad_()
    with torch.enable_grad():
        value = function(leaf)
        # rows are independent, so the gradient of the sum is every task's own gradient
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def fisher_product(kl: TaskFunction, theta: Tensor, *, damping: float) -> TaskFunction:
    """The product v -> (F + damping I) v, (tasks, P) -> (tasks, P), where F is the Hessian of `kl` at `theta`.

    It is computed by double backward. If `theta` has collected the data, F is the Fisher information of the policy.
    """
    _, product = hessian_product(kl, theta)
    return lambda vector: product(vector) + damping * vector


def hessian_product(function: TaskFunction, theta: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The gradient (tasks, P) of `function` at `theta`, and the product v -> H v with its Hessian."""
    leaf = theta.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        (hessian_vector,) = torch.autograd.grad(gradient, leaf, grad_outputs=vector, retain_graph=True)
        return hessian_vector

    return gradient.detach(), product


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, *, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """Solve A x = b row by row for symmetric positive definite A (Nocedal & Wright, algorithm 5.2).

    Args:
        product: p -> A p, (tasks, P) -> (tasks, P).
        b: right-hand sides, (tasks, P); not changed.
        iterations: largest number of products.
        tolerance: a row is finished when its squared residual is at most this share of its |b|^2.

    Returns:
        x, (tasks, P). A row with p'Ap <= 0 in some iteration keeps the x that it had before that iteration.
    """
    x = torch.zeros_like(b)
    r, p = b.clone(), b.clone()
    rr = (r * r).sum(dim=1, keepdim=True)
    target = tolerance * rr
    active = rr > 0
    for _ in range(iterations):
        z = product(p)
        curvature = (p * z).sum(dim=1, keepdim=True)
        active = active & (rr > target) & (curvature > 0)
        if not active.any():
            break
        alpha = torch.where(active, rr / curvature.where(active, torch.ones_like(curvature)), 0.0)
        x = x + alpha * p
        r = r - alpha * z
        rr_new = (r * r).sum(dim=1, keepdim=True)
        p = torch.where(active, r + rr_new / rr.clamp_min(torch.finfo(rr.dtype).tiny) * p, p)
        rr = torch.where(active, rr_new, rr)
    return x


def natural_step(product: TaskFunction, gradient: Tensor, *, max_kl: float, iterations: int) -> Tensor:
    """The longest step along F^-1 g within the quadratic trust region, (tasks, P).

    s = F^-1 g;  step = sqrt(2 max_kl / s^T F s) s, so that 1/2 step^T F step = max_kl. A zero gradient gives a zero
    step.
    """
    s = conjugate_gradient(product, gradient, iterations=iterations)
    curvature = (s * product(s)).sum(dim=1, keepdim=True)
    usable = curvature > 0
    return torch.where(usable, (2.0 * max_kl / curvature.where(usable, torch.ones_like(curvature))).sqrt(), 0.0) * s


def line_search(
    accept: TaskFunction, theta: Tensor, step: Tensor, *, ratio: float, tries: int
) -> tuple[Tensor, Tensor]:
    """Backtrack along `step` until `accept` holds, row by row.

    Args:
        accept: candidate parameters (tasks, P) -> bool (tasks,).
        theta: where the search starts, (tasks, P).
        step: the full step, (tasks, P).
        ratio: length of each try relative to the one before.
        tries: number of lengths that are tried.

    Returns:
        New parameters, (tasks, P), always a new tensor, and the accepted share of the step, (tasks,). A row in which no
        length was accepted, or whose step is zero, has its old parameters and share 0.
    """
    result = theta.clone()
    share = torch.zeros(theta.shape[0], dtype=theta.dtype, device=theta.device)
    open_rows = (step != 0).any(dim=1)
    for attempt in range(tries):
        length = ratio**attempt
        candidate = torch.where(open_rows[:, None], theta + length * step, result)
        accepted = accept(candidate) & open_rows
        result = torch.where(accepted[:, None], candidate, result)
        share = torch.where(accepted, torch.full_like(share, length), share)
        open_rows = open_rows & ~accepted
        if not open_rows.any():
            break
    return result, share
