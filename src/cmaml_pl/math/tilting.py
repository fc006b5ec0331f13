"""The best policy at a price of divergence, within a cost limit: the old one tilted by its advantages, in closed form.

Tensors have one row per task. Policies are distributions over the samples of a rollout; the old one weighs all alike.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BISECTIONS = 40
"""They find u to a share of 1e-12 of its largest value."""


@dataclass(frozen=True)
class Tilt:
    """The solution of `tilt`.

    Attributes:
        multiplier: u >= 0, the multiplier of the cost limit, (tasks,).
        temperature: eta = kappa + u kappa_C, (tasks,).
        infeasible: whether even the largest u does not meet the limit, bool, (tasks,).
    """

    multiplier: Tensor
    temperature: Tensor
    infeasible: Tensor


def tilt(reward: Tensor, cost: Tensor, c: Tensor, *, kl_weight: float, cost_kl_weight: float, high: float) -> Tilt:
    """max_p E_p[A] - kappa KL(p || old)  such that  c + E_p[A_C] + kappa_C KL(p || old) <= 0.

    The Lagrangian is maximised by the tilted distribution (Xu & Zhu 2025, SafeMeta; Peters et al. 2010, REPS)

        p_u ~ old exp((A - u A_C) / eta),    eta = kappa + u kappa_C,

    and what remains is the dual function D(u) = eta log E_old[exp((A - u A_C) / eta)] - u c. It is convex, with the
    derivative D'(u) = -(c + E_p[A_C] + kappa_C KL(p_u || old)). So the excess of the cost, -D'(u), falls with u: u is 0
    where the excess is already negative there, and otherwise the u at which it is 0, found by bisection. (The paper
    descends D by projected gradient steps.)

    Args:
        reward: A, (tasks, samples).
        cost: A_C, (tasks, samples).
        c: excess of the cost over its limit in the unit of `cost`, (tasks,); -inf if there is no limit.
        kl_weight: kappa > 0, per nat.
        cost_kl_weight: kappa_C >= 0, cost per nat.
        high: largest u.
    """

    def excess(u: Tensor) -> Tensor:
        eta = kl_weight + u * cost_kl_weight
        exponent = (reward - u[:, None] * cost) / eta[:, None]
        p = torch.softmax(exponent, dim=1)
        # KL(p || old) = E_p[exponent] - log E_old[exp(exponent)]
        kl = (p * exponent).sum(dim=1) - (
            torch.logsumexp(exponent, dim=1) - torch.full_like(u, exponent.shape[1]).log()
        )
        return c + (p * cost).sum(dim=1) + cost_kl_weight * kl

    low, top = torch.zeros_like(c), torch.full_like(c, high)
    free, infeasible = excess(low) <= 0, excess(top) > 0
    for _ in range(BISECTIONS):
        middle = (low + top) / 2
        beyond = excess(middle) > 0
        low, top = torch.where(beyond, middle, low), torch.where(beyond, top, middle)
    u = torch.where(free, torch.zeros_like(top), torch.where(infeasible, torch.full_like(top, high), top))
    return Tilt(u, kl_weight + u * cost_kl_weight, infeasible)
