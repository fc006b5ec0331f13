"""Intervals of means of skew effects, after Hall 1992, "On the removal of skewness by transformation", JRSS B 54.

Costs are skew: most layouts cost nothing, and a few cost many times the limit. A sample in which those few are missing
has a low mean and a small variance at once, so that Student's interval ends too early, on the side of "within the
limit". With T = (mean - mu) / sd, where sd is the standard error, and the skewness gamma of the mean,

    g(T) = T + gamma T^2 / 3 + gamma^2 T^3 / 27 + gamma / 6

is symmetric to the next order. It rises with T everywhere, and so can be inverted:

    T = 3 / gamma ((1 + gamma (g - gamma / 6))^(1/3) - 1).
"""

import numpy as np

from cmaml_pl.evaluation.statistics import Array, tail_width, variance_parts

STRAIGHT = 1e-6
"""A smaller skewness is none."""


def reach(effects: Array, tail: float) -> tuple[Array, Array]:
    """How far below and above the mean of effects (..., seeds, tasks) intervals end that leave out `tail` there, (...).

    See `half_width` of the statistics, whose interval is as long on both sides.
    """
    parts, third = variance_parts(effects), third_cumulant(effects)
    half, sd = tail_width(parts, tail), deviation(parts)
    return bend(half, sd, third), -bend(-half, sd, third)


def deviation(parts: list[tuple[int, Array]]) -> Array:
    """The standard deviation of a mean whose variance has these parts, see `variance_parts`, (...)."""
    return np.asarray(np.sqrt(sum(part for _, part in parts)))


def third_cumulant(effects: Array) -> Array:
    """Of the mean of effects (..., seeds, tasks), as far as tasks make it skew, (...).

    It is the tasks' own over their squared number. Seeds are too few to tell their skewness; two tasks have none.
    """
    tasks = effects.shape[-1]
    means = effects.mean(axis=-2)
    cubes = ((means - means.mean(axis=-1, keepdims=True)) ** 3).sum(axis=-1)
    return np.asarray(cubes / ((tasks - 1) * (tasks - 2)) / tasks if tasks > 2 else np.zeros_like(cubes))


def straighten(distance: Array | float, sd: Array | float, third: Array | float) -> Array:
    """Sd g(distance / sd), (...): the distance that is to be compared with a symmetric half-width.

    Args:
        distance: mean - mu.
        sd: of the mean.
        third: its third cumulant.
    """
    gamma, scale = _skewness(sd, third)
    t = np.asarray(distance) / scale
    return np.asarray(scale * (t + gamma * t**2 / 3 + gamma**2 * t**3 / 27 + gamma / 6))


def bend(distance: Array | float, sd: Array | float, third: Array | float) -> Array:
    """The inverse of `straighten`, (...): mean - mu at which a symmetric interval of this signed half-width ends."""
    gamma, scale = _skewness(sd, third)
    some = np.where(gamma == 0.0, 1.0, gamma)
    bent = scale * 3 / some * (np.cbrt(1 + some * (np.asarray(distance) / scale - some / 6)) - 1)
    return np.where(gamma == 0.0, distance, bent)


def _skewness(sd: Array | float, third: Array | float) -> tuple[Array, Array]:
    """gamma, and sd, which is 1 where it is 0: there is no skewness there either."""
    scale = np.where(np.asarray(sd) > 0.0, sd, 1.0)
    gamma = np.where(np.asarray(sd) > 0.0, third / scale**3, 0.0)
    return np.where(np.abs(gamma) < STRAIGHT, 0.0, gamma), scale
