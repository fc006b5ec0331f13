"""The tilted policy against a generic solver."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from cmaml_pl.math.tilting import tilt

KL_WEIGHT, COST_KL_WEIGHT, HIGH = 0.7, 0.5, 50.0


def problem(index, samples=8):
    rng = np.random.default_rng(index)
    reward, cost = rng.standard_normal((2, samples))
    return reward, cost, float(rng.uniform(-0.8, 0.4))


def entropic(p):
    """KL(p || uniform)."""
    return float((p * np.log(len(p) * p)).sum())


def excess(p, cost, c):
    return c + p @ cost + COST_KL_WEIGHT * entropic(p)


def best_distribution(reward, cost, c):
    """argmax_p E_p[A] - kappa KL(p) such that c + E_p[A_C] + kappa_C KL(p) <= 0, by SLSQP."""
    n = len(reward)
    found = minimize(
        lambda p: -(p @ reward - KL_WEIGHT * entropic(p)),
        np.full(n, 1 / n),
        bounds=[(1e-9, 1)] * n,
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "ineq", "fun": lambda p: -excess(p, cost, c)},
        ],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.success, found.message
    return found.x


def solve(*problems):
    reward, cost, c = (torch.tensor(np.array(column)) for column in zip(*problems, strict=True))
    found = tilt(reward, cost, c, kl_weight=KL_WEIGHT, cost_kl_weight=COST_KL_WEIGHT, high=HIGH)
    p = torch.softmax((reward - found.multiplier[:, None] * cost) / found.temperature[:, None], dim=1)
    return found, p.numpy()


def test_it_equals_a_generic_solvers_optimum_and_meets_the_limit():
    problems = [problem(index) for index in range(40)]
    found, tilted = solve(*problems)
    bound = 0
    for (reward, cost, c), p, u, infeasible in zip(problems, tilted, found.multiplier, found.infeasible, strict=True):
        if infeasible:
            continue
        np.testing.assert_allclose(p, best_distribution(reward, cost, c), atol=2e-4)
        assert excess(p, cost, c) < 1e-6
        if u > 0:  # complementary slackness
            bound += 1
            assert abs(excess(p, cost, c)) < 1e-6
    assert 5 < bound < 38, "the problems do not try both cases"


def test_an_infeasible_task_gets_the_largest_multiplier_and_lowers_its_cost():
    reward, cost, _ = problem(1)
    found, (p,) = solve((reward, cost, 5.0))
    assert found.infeasible.all()
    assert found.multiplier == HIGH
    assert p @ cost < cost.mean() - 0.4


@pytest.mark.parametrize("c", [-float("inf"), -100.0])
def test_a_limit_that_does_not_bind_changes_nothing(c):
    reward, cost, _ = problem(2)
    found, (p,) = solve((reward, cost, c))
    assert found.multiplier == 0
    assert not found.infeasible.any()
    np.testing.assert_allclose(p, np.exp(reward / KL_WEIGHT) / np.exp(reward / KL_WEIGHT).sum())
