"""The inner loop."""

import torch

from cmaml_pl.algorithm.adaptation import Stage, pull_back


class Doubles:
    """An inner method whose derivative shows through which step it was taken: it doubles, and adds step and theta."""

    def pull_back(self, actor, theta, multiplier, data, step):
        return lambda gradient: 2.0 * gradient + 10.0 * step + theta


def test_a_gradient_is_pulled_back_through_the_last_step_first():
    stages = [Stage(torch.tensor([[at]]), torch.zeros(1), None, None, None) for at in (1.0, 3.0, 7.0)]
    pulled = pull_back(stages, None, Doubles())(torch.tensor([[0.5]]))
    after_the_last = 2.0 * 0.5 + 10.0 * (7.0 - 3.0) + 3.0
    assert pulled.tolist() == [[2.0 * after_the_last + 10.0 * (3.0 - 1.0) + 1.0]]


def test_without_a_step_it_stays_as_it_is():
    stage = Stage(torch.ones(1, 1), torch.zeros(1), None, None, None)
    gradient = torch.tensor([[0.5]])
    assert torch.equal(pull_back([stage], None, Doubles())(gradient), gradient)
