import pytest
import torch

from cmaml_pl.math.multiplier import ascend


def test_it_rises_over_and_falls_under_the_limit_and_stays_in_its_range():
    value = torch.tensor([1.0, 1.0, 0.001, 1.99])
    cost = torch.tensor([9.0, 1.0, 1.0, 90.0])
    torch.testing.assert_close(ascend(value, cost, 5.0, lr=0.01, high=2.0), torch.tensor([1.04, 0.96, 0.0, 2.0]))


@pytest.mark.parametrize("lr", [0.0, 0.01])
def test_an_infinite_limit_gives_zero_or_leaves_it_and_never_nan(lr):
    result = ascend(torch.tensor(0.5), torch.tensor(3.0), torch.tensor(float("inf")), lr=lr, high=1.0)
    assert result == (0.5 if lr == 0 else 0.0)


def test_its_input_is_left_alone():
    value = torch.tensor(0.5)
    ascend(value, torch.tensor(10.0), 1.0, lr=0.1, high=10.0)
    assert value == 0.5
