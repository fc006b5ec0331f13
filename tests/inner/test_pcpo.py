import numpy as np
import torch
from tests.math.solver import best_step, nearest_point
from tests.math.test_cpo_dual import PROBLEMS, column

from cmaml_pl.inner.pcpo import project, shorten


def two_steps(problem):
    """The definition: the best step in the trust region, then the nearest point that meets the limit."""
    ahead = best_step(problem.g, problem.b, None, problem.h, problem.delta) if problem.g.any() else 0 * problem.g
    meets_limit = problem.c + problem.b @ ahead <= 0 or not problem.b.any()
    return ahead if meets_limit else nearest_point(ahead, problem.b, problem.c, problem.h)


def test_the_closed_form_equals_the_two_steps_of_the_definition_by_a_generic_solver():
    projected = shortened = 0
    for problem in PROBLEMS:
        q, r, s = (column([x]) for x in problem.products)
        coefficients = project(q, r, s, column([problem.c]), max_kl=problem.delta)
        x, reference = problem.step(*coefficients), two_steps(problem)
        scale = np.sqrt(2 * problem.delta + reference @ problem.h @ reference)
        difference = x - reference
        assert np.sqrt(difference @ problem.h @ difference) <= 1e-4 * scale, problem
        if problem.b.any():
            assert problem.c + problem.b @ x <= 1e-6 * scale * float(s) ** 0.5
        projected += float(coefficients[1]) < 0
        # shortened, and only then, to the edge of the trust region
        length = float(shorten(q, r, s, *coefficients, max_kl=problem.delta))
        divergence = 0.5 * x @ problem.h @ x
        assert abs(length - min(1.0, np.sqrt(problem.delta / max(divergence, 1e-300)))) <= 1e-6
        shortened += length < 0.999
    assert projected > 100
    assert shortened > 20


def test_a_batch_equals_its_rows_one_by_one_and_the_inputs_are_left_alone():
    q, r, s = (column(x) for x in zip(*(problem.products for problem in PROBLEMS), strict=True))
    inputs = (q, r, s, column([problem.c for problem in PROBLEMS]))
    before = [x.clone() for x in inputs]
    along_reward, along_cost = project(*inputs, max_kl=0.02)
    length = shorten(q, r, s, along_reward, along_cost, max_kl=0.02)
    for row in range(0, len(q), 7):
        one = [x[row : row + 1] for x in inputs]
        single = project(*one, max_kl=0.02)
        assert torch.equal(torch.cat(single), torch.stack([along_reward[row], along_cost[row]]))
        assert torch.equal(shorten(*one[:3], *single, max_kl=0.02), length[row : row + 1])
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
