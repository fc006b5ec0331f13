"""The unit that costs are weighed in."""

import torch

from cmaml_pl.rollout.task_data import common_scale


def test_a_task_that_hardly_costs_anything_is_measured_by_the_batch():
    """Its own deviation would blow a critic's noise up to the weight of a real cost."""
    generator = torch.Generator().manual_seed(0)
    noise, real = 0.01 * torch.randn(1, 400, generator=generator), 2.0 * torch.randn(3, 400, generator=generator)
    scale = common_scale(torch.cat([noise, real]))
    own = real.std(dim=1, correction=0)
    batch = ((own.square().sum() + noise.var(correction=0)) / 4).sqrt()
    torch.testing.assert_close(scale[0], batch)
    torch.testing.assert_close(scale[1:], torch.maximum(own, batch))


def test_a_task_whose_costs_are_not_finite_has_no_part_in_the_scale_of_the_others():
    advantage = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    broken = advantage.clone()
    broken[1, 5] = torch.nan
    found, expected = common_scale(broken), common_scale(advantage[[0, 2]])
    torch.testing.assert_close(found[[0, 2]], expected)
    assert found[1].isnan()


def test_without_any_cost_the_scale_is_zero():
    assert torch.equal(common_scale(torch.full((2, 50), 0.3)), torch.zeros(2))
