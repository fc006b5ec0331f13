"""Adam for rows, against torch's own on each row alone."""

import pytest
import torch

from cmaml_pl.math.adam import adam_ascent

TASKS, SIZE = 4, 6


@pytest.fixture
def theta():
    return torch.randn(TASKS, SIZE, generator=torch.Generator().manual_seed(0))


def unbounded(function):
    """It, with every candidate accepted."""
    return lambda x: (function(x), torch.ones(len(x), dtype=torch.bool))


def wells(theta):
    """A function of each row that is not quadratic, with another top and other slopes in each."""
    generator = torch.Generator().manual_seed(1)
    top, slope = torch.randn(TASKS, SIZE, generator=generator), torch.rand(TASKS, SIZE, generator=generator)
    rows = slice(0, len(theta))
    return -(slope[rows] * (theta - top[rows]).abs().pow(1.5)).sum(dim=1)


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_every_row_goes_where_torchs_adam_takes_it_alone(theta, steps):
    found, share = adam_ascent(unbounded(wells), theta, lr=0.03, steps=steps)
    for row in range(TASKS):
        alone = torch.nn.Parameter(theta.clone())
        optimizer = torch.optim.Adam([alone], lr=0.03)
        for _ in range(steps):
            optimizer.zero_grad()
            (-wells(alone)[row]).backward()
            optimizer.step()
        torch.testing.assert_close(found[row], alone[row].detach(), rtol=1e-5, atol=1e-6)
    assert (share == 1).all()


def test_a_row_that_leaves_what_is_accepted_keeps_its_last_good_parameters_and_the_others_go_on(theta):
    before = theta.clone()
    reach = torch.tensor([0.0, 0.1, 0.35, 100.0])
    found, share = adam_ascent(lambda x: (wells(x), (x - before).abs().amax(dim=1) <= reach), theta, lr=0.05, steps=20)
    assert torch.equal(found[0], theta[0])
    assert share[0] == 0
    assert (0 < share[1] < share[2] < share[3]) == torch.tensor(True)
    assert share[3] == 1
    free, _ = adam_ascent(unbounded(wells), theta, lr=0.05, steps=round(20 * share[2].item()))
    assert torch.equal(found[2], free[2]), "it is not where its last accepted step ended"
    assert torch.equal(theta, before)
    assert found.data_ptr() != theta.data_ptr()


def test_nan_stops_its_own_row_before_the_first_step(theta):
    def broken(x):
        return wells(x) * torch.tensor([1.0, float("nan"), 1.0, 1.0])

    found, share = adam_ascent(lambda x: (broken(x), x.isfinite().all(dim=1)), theta, lr=0.03, steps=5)
    good, _ = adam_ascent(unbounded(wells), theta, lr=0.03, steps=5)
    assert torch.equal(found[1], theta[1])
    assert share.tolist() == [1.0, 0.0, 1.0, 1.0]
    assert torch.equal(found[[0, 2, 3]], good[[0, 2, 3]])


def test_what_the_mask_holds_and_what_has_no_slope_stays(theta):
    mask = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    found, _ = adam_ascent(unbounded(wells), theta, lr=0.03, steps=5, mask=mask)
    assert torch.equal(found != theta, (mask == 1).expand(TASKS, -1))
    still, share = adam_ascent(unbounded(lambda x: 0.0 * x.sum(dim=1)), theta, lr=0.03, steps=5)
    assert torch.equal(still, theta)
    assert (share == 0).all()
