import pytest
import torch

from cmaml_pl.math.multiplier import ascend, scale_penalty


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


def test_a_penalty_is_multiplied_over_the_limit_divided_within_and_kept_in_its_range():
    kappa, over = torch.tensor([1.0, 1.0, 900.0, 0.11]), torch.tensor([True, False, True, False])
    found = scale_penalty(kappa, over, factor=1.5, low=0.1, high=1000.0)
    torch.testing.assert_close(found, torch.tensor([1.5, 1 / 1.5, 1000.0, 0.1]))
    assert kappa.tolist() == torch.tensor([1.0, 1.0, 900.0, 0.11]).tolist()
