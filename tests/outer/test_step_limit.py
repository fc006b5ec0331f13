"""The trust region of the meta-step."""

import math

import pytest
import torch
from tests.helpers import make_actor, make_task_data

from cmaml_pl.inner.base import mean_kl
from cmaml_pl.outer.step_limit import LINE_SEARCH_RATIO, limit_step


@pytest.fixture
def actor():
    """mu(s) = W s + b with D = A = 1; theta is log_std, W, b."""
    return make_actor(observation_size=1, action_size=1, hidden=())


def propose(actor, step):
    """Rollouts of the old policy of an actor that has been moved by `step`, and where it stood."""
    old = actor.vector()
    pre = make_task_data(actor, old.expand(3, -1))
    actor.load_vector(old + torch.tensor(step))
    return old, pre


@pytest.mark.parametrize("max_kl", [0.001, 0.02, 0.3])
def test_a_step_too_long_is_taken_to_the_first_length_within_the_region(actor, max_kl):
    shift, sigma = 0.9, math.exp(-0.5)
    old, pre = propose(actor, [0.0, 0.0, shift])
    kl, share = limit_step(actor, old, pre, max_kl=max_kl)
    # a shift of the mean alone: KL = (share shift)^2 / (2 sigma^2)
    tries = 0
    while (LINE_SEARCH_RATIO**tries * shift) ** 2 / (2 * sigma**2) > max_kl:
        tries += 1
    assert tries > 0
    assert float(share) == pytest.approx(LINE_SEARCH_RATIO**tries)
    assert float(kl) == pytest.approx((float(share) * shift) ** 2 / (2 * sigma**2), rel=1e-4)
    assert float(kl) <= max_kl
    torch.testing.assert_close(actor.vector(), old + float(share) * torch.tensor([0.0, 0.0, shift]))


def test_what_is_limited_is_the_mean_over_the_tasks(actor):
    old, pre = propose(actor, [0.1, 0.4, -0.3])
    each = mean_kl(actor, actor.vector().expand(3, -1), pre)
    assert each.max() > 1.05 * each.mean()
    kl, share = limit_step(actor, old, pre, max_kl=float(each.mean()) * 1.001)
    assert share == 1.0
    torch.testing.assert_close(kl, each.mean(), rtol=1e-4, atol=0.0)


def test_without_a_limit_nothing_is_touched_and_the_divergence_is_told(actor):
    old, pre = propose(actor, [0.3, -0.7, 2.0])
    before = actor.vector()
    kl, share = limit_step(actor, old, pre, max_kl=None)
    assert torch.equal(actor.vector(), before)
    assert share == 1.0
    torch.testing.assert_close(kl, mean_kl(actor, before.expand(3, -1), pre).mean())


@pytest.mark.parametrize("step", [[float("nan"), 0.0, 0.0], [0.0, 0.0, 1e6], [0.0, 0.0, 0.0]])
def test_where_no_length_will_do_the_meta_policy_is_as_it_was(actor, step):
    old, pre = propose(actor, step)
    kl, share = limit_step(actor, old, pre, max_kl=1e-4)
    assert torch.equal(actor.vector(), old)
    assert share == 0.0
    assert abs(kl) < 1e-6


def test_the_rollouts_and_the_old_parameters_are_left_alone(actor):
    old, pre = propose(actor, [0.0, 0.0, 1.0])
    kept, before = old.clone(), {name: value.clone() for name, value in vars(pre).items()}
    limit_step(actor, old, pre, max_kl=0.01)
    assert torch.equal(old, kept)
    assert all(torch.equal(value, getattr(pre, name)) for name, value in before.items())
