"""Learned lengths of the adaptation steps: how they move, and the two gradients that move them."""

import math

import torch
from torch import Tensor

from cmaml_pl.outer.base import MetaGoal

LONGEST = math.sqrt(10.0)
"""A step may become so many times as long as configured, or as short: `max_kl` between a tenth and ten times of it."""

MOST = 0.1
"""Largest change of the logarithm of a length in a meta-iteration: so noisy a gradient must not decide alone."""


def move_lengths(lengths: Tensor, gradient: Tensor, *, lr: float) -> Tensor:
    """One step of gradient descent on the logarithms of the factors, within their bounds.

    The logarithm keeps a length positive, and makes `lr` independent of its unit. Learned step sizes are those of
    Meta-SGD (Li, Zhou, Chen & Li 2017), but one for each step, not for each parameter (Antoniou, Edwards & Storkey
    2019, MAML++).

    Args:
        lengths: factors on the lengths of the adaptation steps, (K,); not changed.
        gradient: of what is to fall, in their logarithms, (K,).
        lr: step size; the loss is in standard deviations of the advantage.
    """
    return (lengths * (-lr * gradient).clamp(-MOST, MOST).exp()).clamp(1.0 / LONGEST, LONGEST)


def length_slopes(start: Tensor, goal: MetaGoal, gradient: Tensor) -> Tensor:
    """dL_p / dlog f_k of the policies after j <= K steps, (tasks, j).

    With f_k the factor on the length of step x_k, theta^p = theta + sum_k x_k. The direction of a step, and the steps
    after it, are held constant, which is first order again:

        dL_p / dlog f_k = x_k' grad L_p(theta^p).

    Args:
        start: theta, (P,).
        goal: the policies, with the steps that led to them.
        gradient: grad L_p(theta^p), (tasks, P).
    """
    path = torch.stack([start.expand_as(gradient), *(step.theta for step in goal.steps)])  # (j + 1, tasks, P)
    return (path.diff(dim=0) * gradient).sum(dim=2).T


def bound_slope(distance: Tensor, walked: Tensor) -> Tensor:
    """The relative slope of the bound of a task's regret in the logarithm of the step size, scalar.

    A task that K steps of mirror descent of size alpha lead from the initialisation phi to pi has a regret of at most

        U(alpha) = KL(pi || phi) / alpha + alpha K G^2 / 2,

    where G is the dual norm of the gradients. The first term is what a short step costs, the second what a long one
    does. A step of natural gradient has the divergence alpha^2 G^2 / 2, so that the K steps together have
    W = alpha^2 K G^2 / 2, and G need not be known:

        dU / dlog alpha = (W - KL(pi || phi)) / alpha,    which this function gives in units of W / alpha.

    It is 0 where the steps together are as long as the way: at a radius of E KL(pi || phi) / K, the best one in
    hindsight (Khodak, Balcan & Talwalkar 2019, "Adaptive Gradient-Based Meta-Learning Methods"). Meta-SRL descends
    bounds of this form as well, with constants of softmax policies, which are not used here.

    Args:
        distance: mean KL(pi || phi) over tasks, nats, scalar.
        walked: W, the mean over tasks of the sum of the divergences of the steps, nats, scalar.
    """
    return torch.where(walked > 0, 1.0 - distance / walked, 0.0)
