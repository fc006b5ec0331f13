"""What the methods without second derivatives climb, against closed forms and an independent solver."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tests.helpers import make_actor, make_method, make_task_data
from tests.inner.bandit import bandit_actor, play
from torch.distributions import Independent, Normal, kl_divergence

from cmaml_pl.errors import UserError
from cmaml_pl.inner.base import clipped_surrogate, likelihood_ratio, mean_kl
from cmaml_pl.inner.crpo import CRPO
from cmaml_pl.inner.first_order import AdamRegion
from cmaml_pl.inner.focops import projection_gain
from cmaml_pl.inner.p3o import P3O, penalised_surrogate
from cmaml_pl.math.natural_gradient import rowwise_gradient

FIRST_ORDER = ["focops", "p3o", "ppo_lag"]


def start(tasks=3, **fields):
    actor = make_actor(hidden=(8,))
    theta = actor.vector().expand(tasks, -1).clone()
    return actor, theta, make_task_data(actor, theta, samples=200, **fields)


# The step


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_longer_pass_list_ends_where_the_divergence_stops_it(name):
    actor, theta, data = start()
    long, short = (
        make_method(name, region={"max_kl": 0.01, "passes": passes}).step(actor, theta, torch.ones(3), data)
        for passes in (400, 1)
    )
    assert (long.step_share < 1).all()
    assert (long.kl <= 0.01).all()
    assert (long.kl > 0.005).all(), "it stopped too early"
    torch.testing.assert_close(long.kl, mean_kl(actor, long.theta, data).detach())
    assert (short.step_share == 1).all()
    assert (short.kl < long.kl).all()


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_a_first_pass_that_is_too_long_is_refused(name):
    actor, theta, data = start()
    step = make_method(name, region={"max_kl": 1e-6, "lr": 0.1}).step(actor, theta, torch.ones(3), data)
    assert torch.equal(step.theta, theta)
    assert (step.step_share == 0).all()
    assert (step.kl == 0).all()


# PPO-Lagrangian


def test_nothing_is_gained_beyond_the_clip_and_everything_lost_is_seen():
    ratio = torch.tensor([[0.5, 0.9, 1.0, 1.1, 3.0]], requires_grad=True)
    for sign in (1.0, -1.0):
        value = clipped_surrogate(ratio, torch.full((1, 5), sign), 0.2)
        (slope,) = torch.autograd.grad(value.sum(), ratio)
        # with a good action the ratio is capped at 1.2, with a bad one it is held at 0.8 from below
        seen = [1, 1, 1, 1, 0] if sign > 0 else [0, 1, 1, 1, 1]
        capped = [0.5, 0.9, 1.0, 1.1, 1.2] if sign > 0 else [0.8, 0.9, 1.0, 1.1, 3.0]
        torch.testing.assert_close(slope[0], sign * torch.tensor(seen) / 5)
        torch.testing.assert_close(value[0], sign * torch.tensor(capped).mean())


@pytest.mark.parametrize("name", ["ppo_lag", "focops"])
def test_lambda_is_that_of_trpo_lagrangian(name):
    actor, theta, data = start(episode_cost=7.0, cost_limit=5.0)
    fields = {"multiplier_lr": 0.1, "multiplier_kp": 0.2, "multiplier_max": 2.0, "margin": 0.9}
    ours, its = make_method(name, **fields), make_method("trpo_lag", **fields)
    before = torch.tensor([0.0, 0.5, 1.99])
    for found, expected in zip(
        ours.judge(actor, theta, before, data), its.judge(actor, theta, before, data), strict=True
    ):
        assert torch.equal(found, expected)
    step = ours.step(actor, theta, before, data)
    torch.testing.assert_close(step.multiplier, torch.tensor([0.25, 0.75, 2.0]))


# FOCOPS


def quantiles(samples, sigma):
    """So many equally likely actions of N(0, sigma^2) in each of two dimensions, in all pairs."""
    ranks = (torch.arange(samples) + 0.5) / samples
    line = sigma * Normal(0.0, 1.0).icdf(ranks)
    return torch.cartesian_prod(line, line)[None]


def test_focops_ends_at_the_best_of_all_policies_where_the_network_can_represent_it():
    """For A = k'a, pi_old exp(A / t) is N(mu + sigma^2 k / t, sigma^2): FOCOPS has to move the mean there, and stop."""
    actor = bandit_actor()
    theta = actor.vector()[None]
    data = play(actor, theta, torch.Generator().manual_seed(0), samples=60 * 60)
    sigma, slope, temperature = data.scale[0, 0, 0], torch.tensor([1.2, -0.5]), 2.0
    action = quantiles(60, sigma)
    log_prob = Independent(Normal(data.loc, data.scale), 1).log_prob(action)
    data = replace(data, action=action, log_prob=log_prob)
    region = AdamRegion(max_kl=100.0, passes=400, lr=0.02)
    step = region.step(
        actor,
        theta,
        torch.zeros(1),
        data,
        lambda *new: projection_gain(*new, data, action @ slope, temperature=temperature, max_kl=100.0),
    )
    loc, scale = actor.stacked(step.theta, data.features)
    torch.testing.assert_close(loc[0, 0], sigma**2 * slope / temperature, atol=0.02, rtol=0)
    torch.testing.assert_close(scale[0, 0], data.scale[0, 0], atol=0.02, rtol=0)


def test_its_gradient_is_that_of_the_regularised_objective_over_the_states_still_near():
    """State by state, with torch's own distributions."""
    actor, theta, data = start()
    moved = theta + 0.06 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(2))
    advantage = data.reward_signal - 0.7 * data.cost_signal

    def gain(x):
        return projection_gain(*actor.stacked(x, data.features), data, advantage, temperature=1.5, max_kl=0.05)

    _, found = rowwise_gradient(gain, moved)
    for task in range(3):
        expected, near = torch.zeros_like(moved[task]), 0
        for i in range(200):
            x = moved[task].clone().requires_grad_()
            loc, scale = actor.stacked(x[None], data.features[task : task + 1, i : i + 1])
            new = Independent(Normal(loc[0, 0], scale[0, 0]), 1)
            old = Independent(Normal(data.loc[task, i], data.scale[task, i]), 1)
            divergence = kl_divergence(new, old)
            if divergence > 0.05:
                continue
            ratio = (new.log_prob(data.action[task, i]) - data.log_prob[task, i]).exp()
            loss = divergence - ratio * advantage[task, i] / 1.5
            expected -= torch.autograd.grad(loss, x)[0] / 200
            near += 1
        assert 20 < near < 180, "the indicator tells no states apart"
        torch.testing.assert_close(found[task], expected, rtol=1e-3, atol=1e-5)


# P3O


def with_bias(actor, bias):
    theta = actor.vector()[None].clone()
    theta[0, -2:] = torch.as_tensor(bias, dtype=theta.dtype)
    return theta


@pytest.mark.parametrize("share", [0.5, 1.2, 10.0])
def test_the_penalty_is_exact_above_the_dual_variable_and_not_below(share):
    """Theorem 1 of the paper; a generic solver takes the problem as it is, with its constraint."""
    actor, excess = bandit_actor(), -0.3
    data = play(actor, actor.vector()[None], torch.Generator().manual_seed(0), samples=1000)
    actor, data = actor.double(), replace(data, **{name: value.double() for name, value in vars(data).items()})

    def surrogates(bias):
        ratio = likelihood_ratio(actor, with_bias(actor, bias), data).detach()
        return [float((ratio * signal).mean()) for signal in (data.reward_signal, data.cost_signal)]

    def penalised(bias):
        kappa = torch.tensor([share * dual], dtype=torch.float64)
        ratio = likelihood_ratio(actor, with_bias(actor, bias), data)
        return float(penalised_surrogate(ratio, data, kappa, torch.tensor([excess]), clip=100.0))

    limit = {"type": "ineq", "fun": lambda x: -excess - surrogates(x)[1]}
    best = minimize(lambda x: -surrogates(x)[0], np.zeros(2), constraints=limit, method="SLSQP", tol=1e-10)
    around = [surrogates(best.x + np.array([h, 0.0])) for h in (1e-4, -1e-4)]
    dual = (around[0][0] - around[1][0]) / (around[0][1] - around[1][1])
    assert dual > 0.1, "the limit does not bind"
    found = minimize(lambda x: -penalised(x), np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    if share > 1:
        np.testing.assert_allclose(found.x, best.x, atol=1e-3)
    else:
        assert surrogates(found.x)[1] + excess > 0.1


def test_of_both_surrogates_p3o_takes_the_worse_estimate():
    actor, theta, data = start()
    moved = theta + 0.3 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(2))
    kappa, excess = torch.tensor([0.5, 2.0, 7.0]), torch.tensor([3.0, 0.1, -3.0])
    ratio = likelihood_ratio(actor, moved, data)
    found = penalised_surrogate(ratio, data, kappa, excess, clip=0.2)
    both = torch.stack([ratio, ratio.clamp(0.8, 1.2)])
    reward, cost = (both * data.reward_signal).amin(dim=0).mean(1), (both * data.cost_signal).amax(dim=0).mean(1)
    torch.testing.assert_close(found, reward - kappa * (cost + excess).relu())
    assert (cost + excess)[2] < 0 < (cost + excess)[0]


def test_kappa_follows_the_limit_and_weighs_the_cost_in_the_outer_loss_only_beyond_it():
    actor, theta, data = start(tasks=4, cost_limit=10.0)
    data = replace(data, episode_cost=torch.tensor([8.4, 8.6, 20.0, 1.0]))
    method, before = make_method("p3o", margin=0.85, kappa_max=5.0), torch.tensor([3.0, 3.0, 4.0, 0.12])
    kappa, weight = method.judge(actor, theta, before, data)
    torch.testing.assert_close(kappa, torch.tensor([2.0, 4.5, 5.0, 0.1]))
    torch.testing.assert_close(weight, torch.tensor([0.0, 4.5, 5.0, 0.0]))
    assert torch.equal(method.step(actor, theta, before, data).multiplier, kappa)


# CRPO


def test_crpo_takes_the_reward_up_to_its_tolerance_and_the_cost_beyond():
    actor, theta, data = start(tasks=4, cost_limit=10.0)
    data = replace(data, episode_cost=torch.tensor([0.0, 12.5, 12.5001, 99.0]))
    method = CRPO(tolerance=0.25, multiplier_max=7.0)
    step = method.step(actor, theta, torch.ones(4), data)
    assert step.multiplier.tolist() == [0.0, 0.0, 7.0, 7.0]
    moved, gradient = step.theta - theta, torch.ones_like(theta)
    pulled = method.pull_back(actor, theta, torch.ones(4), data, moved)(gradient)
    for advantage, rows in ((data.reward_signal, slice(0, 2)), (-data.cost_signal, slice(2, 4))):
        expected, _, _ = method.trust_region.step(actor, theta, data, advantage)
        assert torch.equal(step.theta[rows], expected[rows])
        expected = method.trust_region.pull_back(actor, theta, data, advantage, moved)(gradient)
        torch.testing.assert_close(pulled[rows], expected[rows])
    for found in method.judge(actor, theta, torch.ones(4), data):
        assert torch.equal(found, step.multiplier)


@pytest.mark.parametrize("kappa", [{"kappa": 2000.0}, {"kappa_min": 10.0, "kappa_max": 1.0}])
def test_p3o_refuses_a_kappa_outside_of_its_range(kappa):
    with pytest.raises(UserError, match=r"inner.kappa is .*, but must lie between inner.kappa_min"):
        P3O(**kappa)
