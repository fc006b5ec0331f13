"""The step of Constrained Policy Optimization in closed form (Achiam et al. 2017, arXiv 1705.10528).

Tensors have one row per task. Equation numbers are those of the paper.
"""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

FLAT = 1e-8
"""Largest s that is treated as b = 0, see `solve`. The number is for standardised advantages, for which s has no unit:
with this s, a step within a trust region of 0.01 nats changes the cost surrogate by at most 1.5e-5 of its standard
deviation."""


class Case(IntEnum):
    """How the trust region lies relative to the half-space c + b'x <= 0; the numbers are those of Ray et al. (2019).

    In the cases from BOUNDED on, no step has to lower the reward. In the cases before, a step toward the limit may
    lower it.
    """

    RECOVERY = 0
    """c > 0 and no point of the trust region meets the limit: the problem is infeasible."""
    RETURN = 1
    """c > 0, but a part of the trust region meets the limit: x = 0 does not."""
    BOUNDED = 2
    """c <= 0, and a part of the trust region does not meet the limit."""
    FREE = 3
    """c <= 0, and the whole trust region meets the limit."""
    FLAT = 4
    """b = 0: no step changes the cost, so the limit does not restrain the step."""


@dataclass(frozen=True)
class CPOSolution:
    """The solution of (11): x = along_reward v + along_cost w with v = H^-1 g and w = H^-1 b. Every field is (tasks,).

    Attributes:
        along_reward: 1 / lambda in (13).
        along_cost: -nu / lambda in (13).
        trust_multiplier: lambda, the multiplier of the trust region; infinite for RECOVERY, as the dual is unbounded.
        cost_multiplier: nu, the multiplier of the limit; infinite for RECOVERY.
        case: the `Case` of each task, int64.
    """

    along_reward: Tensor
    along_cost: Tensor
    trust_multiplier: Tensor
    cost_multiplier: Tensor
    case: Tensor


def classify(s: Tensor, c: Tensor, *, max_kl: float) -> Tensor:
    """The `Case` of every task, int64, (tasks,); the arguments are those of `solve`."""
    violated = c > 0
    # B = 2 delta - c^2/s: the plane c + b'x = 0 cuts the trust region where B >= 0, see (27)
    cut = c.square() <= 2.0 * max_kl * s
    case = torch.where(violated, Case.RECOVERY, Case.FREE)
    case = case.where(~cut, torch.where(violated, Case.RETURN, Case.BOUNDED))
    return case.where(s > FLAT, torch.full_like(case, Case.FLAT))


def solve(q: Tensor, r: Tensor, s: Tensor, c: Tensor, *, max_kl: float) -> CPOSolution:
    """max_x g'x such that c + b'x <= 0 and 1/2 x'Hx <= delta: equation (11) with one constraint.

    g and b are the gradients of the reward's and the cost's surrogate, H is the Fisher matrix, x = theta - theta_k. The
    solution needs only three products of them: q, r and s. Theorem 2 (appendix 10.2) solves the dual (12) and the
    primal (13),

        x = 1/lambda H^-1 (g - nu b),    nu = max(0, (lambda c + r) / s).

    The theorem minimises and has the constraint x'Hx <= delta; hence the sign of r and the factor 2 of delta are
    different here. The theorem compares the two pieces of the dual. Here the primal decides: if the step without the
    limit (nu = 0) meets the limit, it is the best step; otherwise the limit is active, and lambda = sqrt(A / B). By
    strong duality both give the same step, and the primal divides neither by c nor by lambda.

    Args:
        q: g'H^-1 g >= 0, (tasks,).
        r: g'H^-1 b, (tasks,).
        s: b'H^-1 b >= 0, (tasks,).
        c: excess of the cost over its limit **in the unit of the cost surrogate**, (tasks,); -inf if there is no limit.
        max_kl: delta > 0, nats.
    """
    case = classify(s, c, max_kl=max_kl)
    s = s.where(case != Case.FLAT, torch.ones_like(s))
    # A = q - r^2/s >= 0 by Cauchy-Schwarz; A = 0 (up to rounding) means that g is a multiple of b
    A = q - r.square() / s
    parallel = 8 * torch.finfo(q.dtype).eps * q >= A
    A = A.where(~parallel, torch.ones_like(A))
    B = (2.0 * max_kl - c.square() / s).clamp_min(0.0)

    # nu = 0, lambda = sqrt(q / (2 delta)): the plain trust-region step; it is zero if the gradient is zero
    slack_lambda = (q / (2.0 * max_kl)).sqrt()
    slack = torch.where(q > 0, 1.0 / slack_lambda, 0.0)
    bound = ((case == Case.RETURN) | (case == Case.BOUNDED)) & (c + slack * r > 0)  # c + b'x > 0 at that step

    # c + b'x = 0, lambda = sqrt(A / B), nu = (lambda c + r) / s. If the gradients are parallel, the objective is
    # constant on this plane, and the shortest step to the plane is taken: lambda = 0, x = -c/s w
    tight_lambda = torch.where(parallel, 0.0, (A / B).sqrt())
    tight = torch.where(parallel, 0.0, (B / A).sqrt())
    tight_nu = ((tight_lambda * c + r) / s).clamp_min(0.0)

    # (14): x = -sqrt(2 delta / s) w
    recovery, infinity = case == Case.RECOVERY, torch.full_like(q, torch.inf)
    return CPOSolution(
        along_reward=torch.where(recovery, 0.0, torch.where(bound, tight, slack)),
        along_cost=torch.where(recovery, -(2.0 * max_kl / s).sqrt(), torch.where(bound, -(c + tight * r) / s, 0.0)),
        trust_multiplier=torch.where(recovery, infinity, torch.where(bound, tight_lambda, slack_lambda)),
        cost_multiplier=torch.where(recovery, infinity, torch.where(bound, tight_nu, 0.0)),
        case=case,
    )
