"""SafeMeta's adaptation."""

import dataclasses

import torch
from tests.helpers import make_method, make_task_data
from tests.inner.bandit import bandit_actor

from cmaml_pl.inner.safemeta import SafeMetaAdaptation

SIGMA = 0.6065306597  # exp(-0.5)


def linear_data(actor, theta, slopes, *, samples=20_000, episode_cost=0.0):
    """Rollouts whose reward and cost advantages are slope z of the first action's noise z, one slope each."""
    data = make_task_data(actor, theta, samples=samples, episode_cost=episode_cost)
    z = (data.action - data.loc)[..., 0] / data.scale[..., 0]
    z = (z - z.mean(dim=1, keepdim=True)) / z.std(dim=1, correction=0, keepdim=True)
    reward, cost = (slope * z for slope in slopes)
    return dataclasses.replace(data, reward_advantage=reward, cost_advantage=cost, cost_scale=torch.ones(len(theta)))


def test_without_a_cost_the_gaussian_is_tilted_by_its_closed_form():
    """N(mu, sigma^2) exp(z / kappa) is N(mu + sigma / kappa, sigma^2), whose divergence is 1 / (2 kappa^2)."""
    actor, kappa = bandit_actor(), 4.0
    theta = actor.vector().expand(2, -1).clone()
    data = linear_data(actor, theta, (1.0, 0.0))
    data = dataclasses.replace(data, features=torch.zeros_like(data.features))  # one state, so that only the bias moves
    method = make_method("safemeta", kl_weight=kappa, region={"max_kl": 1.0, "cg_damping": 1e-6, "fisher_every": 1})
    step = method.step(actor, theta, torch.zeros(2), data)
    loc, _ = actor.stacked(step.theta, torch.zeros(2, 1, 1))
    torch.testing.assert_close(loc[:, 0, 0], torch.full((2,), SIGMA / kappa), rtol=0.02, atol=0.0)
    torch.testing.assert_close(step.kl, torch.full((2,), 1 / (2 * kappa**2)), rtol=0.04, atol=0.0)
    assert (step.step_share == 1).all()
    assert (step.multiplier == 0).all()


def test_where_the_reward_is_what_costs_the_step_goes_as_far_as_the_limit_allows():
    """With A_r = A_C = z and c < 0: c + m + kappa_C m^2 / 2 = 0 for a shift of m standard deviations."""
    actor = bandit_actor()
    theta = actor.vector().expand(1, -1).clone()
    data = linear_data(actor, theta, (1.0, 1.0), episode_cost=3.0)  # of 5, in 20 steps: c = -0.1
    data = dataclasses.replace(data, features=torch.zeros_like(data.features))
    method = make_method("safemeta", cost_kl_weight=0.5, region={"max_kl": 1.0, "cg_damping": 1e-6, "fisher_every": 1})
    step = method.step(actor, theta, torch.zeros(1), data)
    shift = (-1 + (1 + 2 * 0.5 * 0.1) ** 0.5) / 0.5
    loc, _ = actor.stacked(step.theta, torch.zeros(1, 1, 1))
    torch.testing.assert_close(loc[0, 0, 0], torch.tensor(shift * SIGMA), rtol=0.03, atol=0.0)
    # eta m = 1 - u with eta = kappa + u kappa_C
    kappa = SafeMetaAdaptation().kl_weight
    torch.testing.assert_close(
        step.multiplier, torch.tensor([(1 - kappa * shift) / (1 + 0.5 * shift)]), rtol=0.02, atol=0.0
    )


def test_the_multiplier_of_the_outer_loss_is_that_of_the_next_step():
    actor = bandit_actor()
    theta = actor.vector().expand(3, -1).clone()
    data = make_task_data(actor, theta, samples=200, episode_cost=5.1, cost_limit=5.0)
    method = SafeMetaAdaptation()
    carried, weight = method.judge(actor, theta, torch.zeros(3), data)
    assert torch.equal(weight, method.step(actor, theta, torch.zeros(3), data).multiplier)
    assert torch.equal(carried, weight)
    assert (weight > 0).all()
