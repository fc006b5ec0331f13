from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.math.solver import best_step

from cmaml_pl.math.cpo_dual import Case, solve


@dataclass
class Problem:
    """max g'x s.t. c + b'x <= 0, 1/2 x'Hx <= delta, with its products."""

    g: NDArray[np.float64]
    b: NDArray[np.float64]
    h: NDArray[np.float64]
    c: float
    delta: float

    @property
    def natural(self):
        """H^-1 g and H^-1 b."""
        return np.linalg.solve(self.h, self.g), np.linalg.solve(self.h, self.b)

    @property
    def products(self):
        v, w = self.natural
        return self.g @ v, self.g @ w, self.b @ w

    def step(self, along_reward, along_cost):
        v, w = self.natural
        return float(along_reward) * v + float(along_cost) * w


def random_problem(index):
    rng = np.random.default_rng(index)
    size = int(rng.integers(2, 13))
    q = np.linalg.qr(rng.standard_normal((size, size)))[0]
    h = q @ np.diag(np.exp(rng.uniform(-2, 2, size))) @ q.T
    g, b = rng.standard_normal((2, size)) * np.exp(rng.uniform(-2, 2, (2, 1)))
    delta = float(np.exp(rng.uniform(-6, 0)))
    kind = index % 20
    if kind == 0:
        b = np.zeros(size)
    elif kind == 1:
        b = float(rng.uniform(0.5, 2)) * g  # what pays costs
    elif kind == 2:
        b = -float(rng.uniform(0.5, 2)) * g  # what pays saves
    elif kind == 3:
        g = np.zeros(size)
    # sqrt(2 delta s) is the largest change of the cost within the trust region
    reach = np.sqrt(2 * delta * (b @ np.linalg.solve(h, b)))
    c = float(rng.uniform(-1.6, 1.6)) * (reach or 1.0)
    return Problem(g, b, h, 0.0 if kind == 4 else c, delta)


PROBLEMS = [random_problem(index) for index in range(500)]


def column(values):
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def solve_one(problem):
    q, r, s = (column([x]) for x in problem.products)
    return solve(q, r, s, column([problem.c]), max_kl=problem.delta)


@pytest.fixture(scope="module")
def solutions():
    return [solve_one(problem) for problem in PROBLEMS]


def test_every_case_occurs_and_is_what_its_name_says(solutions):
    counts = dict.fromkeys(Case, 0)
    for problem, solution in zip(PROBLEMS, solutions, strict=True):
        case = Case(int(solution.case))
        counts[case] += 1
        # how far the cost can change within the trust region, and whether the limit is met at x = 0
        _, _, s = problem.products
        reach = np.sqrt(2 * problem.delta * s)
        expected = {
            Case.RECOVERY: problem.c > 0 and problem.c - reach > 0,
            Case.RETURN: problem.c > 0 and problem.c - reach <= 0,
            Case.BOUNDED: problem.c <= 0 and problem.c + reach >= 0,
            Case.FREE: problem.c <= 0 and problem.c + reach < 0,
            Case.FLAT: not problem.b.any(),
        }
        assert expected[case], (case, problem)
        assert (case == Case.FLAT) == expected[Case.FLAT]
    assert all(count >= 20 for count in counts.values()), counts


def test_the_step_is_as_good_as_a_generic_solvers_and_keeps_both_constraints(solutions):
    restrained = 0
    for problem, solution in zip(PROBLEMS, solutions, strict=True):
        case = Case(int(solution.case))
        x = problem.step(solution.along_reward, solution.along_cost)
        assert 0.5 * x @ problem.h @ x <= problem.delta * (1 + 1e-6)
        if case == Case.RECOVERY:  # nothing is feasible: the cost falls as far as it can
            reference = best_step(-problem.b, None, None, problem.h, problem.delta)
            _, _, s = problem.products
            assert abs(problem.b @ x - problem.b @ reference) <= 1e-4 * np.sqrt(2 * problem.delta * s)
            continue
        limit = None if case == Case.FLAT else problem.c
        reference = best_step(problem.g, problem.b, limit, problem.h, problem.delta)
        q, _, s = problem.products
        if case != Case.FLAT:
            assert problem.c + problem.b @ x <= 1e-6 * np.sqrt(2 * problem.delta * s)
        assert abs(problem.g @ x - problem.g @ reference) <= 1e-4 * np.sqrt(2 * problem.delta * q), (case, problem)
        restrained += float(solution.cost_multiplier) > 0
    assert restrained > 100, "the limit hardly mattered"


def test_the_multipliers_satisfy_the_conditions_of_optimality(solutions):
    for problem, solution in zip(PROBLEMS, solutions, strict=True):
        trust, cost = float(solution.trust_multiplier), float(solution.cost_multiplier)
        if solution.case == Case.RECOVERY:
            assert trust == cost == float("inf")
            continue
        x = problem.step(solution.along_reward, solution.along_cost)
        scale = np.abs(problem.g).max() + 1e-12
        # (13): lambda H x = g - nu b, with nu (c + b'x) = 0 and lambda (1/2 x'Hx - delta) = 0
        np.testing.assert_allclose(trust * problem.h @ x, problem.g - cost * problem.b, atol=1e-6 * scale)
        assert trust >= 0
        assert cost >= 0
        q, _, s = problem.products
        assert abs(cost * (problem.c + problem.b @ x)) <= 1e-8 * (q + cost * np.sqrt(s))
        assert abs(trust * (0.5 * x @ problem.h @ x - problem.delta)) <= 1e-8 * (1 + trust)


def test_a_batch_equals_its_rows_one_by_one_and_the_inputs_are_left_alone():
    generator = torch.Generator().manual_seed(0)
    gram = torch.randn(200, 5, 2, generator=generator, dtype=torch.float64)
    gram = gram.mT @ gram
    q, r, s = gram[:, 0, 0].clone(), gram[:, 0, 1].clone(), gram[:, 1, 1].clone()
    s[:20], r[:20] = 0.0, 0.0
    c = 0.5 * torch.randn(200, generator=generator, dtype=torch.float64)
    inputs = (q, r, s, c)
    before = [x.clone() for x in inputs]
    batch = solve(*inputs, max_kl=0.01)
    for row in range(200):
        single = solve(*(x[row : row + 1] for x in inputs), max_kl=0.01)
        for item in fields(single):
            assert torch.equal(getattr(single, item.name), getattr(batch, item.name)[row : row + 1]), item.name
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [0.0, 1e-30, -1e-30, 1.0, -1.0, 1e20, -1e20, float("-inf")])
def test_zero_gradients_and_extreme_limits_give_numbers(c, dtype):
    q, r, s = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 1, 1], [1, -1, 1], [1, 0.5, 1]], dtype=dtype).T
    solution = solve(q, r, s, torch.full_like(q, c), max_kl=0.01)
    assert solution.along_reward.isfinite().all()
    assert solution.along_cost.isfinite().all()
    assert not solution.trust_multiplier.isnan().any()
    assert not solution.cost_multiplier.isnan().any()
    # without a gradient of the cost it is the plain trust-region step, whatever the limit
    torch.testing.assert_close(solution.along_reward[:2], torch.tensor([0.0, 0.02], dtype=dtype).sqrt())
    assert (solution.along_cost[:2] == 0).all()


def test_at_the_limit_a_step_that_pays_and_costs_moves_along_it():
    # g and b at 60 degrees, J_C = d: the quotient r / c of the printed solution does not exist
    solution = solve(*column([1.0, 0.5, 1.0, 0.0])[:, None], max_kl=0.01)
    assert int(solution.case) == Case.BOUNDED
    torch.testing.assert_close(solution.along_cost, -0.5 * solution.along_reward)
    assert solution.along_reward > 0
