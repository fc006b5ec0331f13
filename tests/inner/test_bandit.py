"""Repeated steps have to find the constrained optimum where it is known."""

import pytest
import torch
from tests.helpers import make_method
from tests.inner.bandit import LIMIT, TARGET, bandit_actor, mean_action, play

SEEDS = 3
"""Rows that start within the limit, and as many that start beyond; each draws its own actions."""


def learn(name, *, steps, **settings):
    """The mean actions after each of so many steps, (steps, 2 SEEDS, 2)."""
    method = make_method(name, region={"max_kl": 0.01, "lr": 0.005, "passes": 20}, **settings)
    actor = bandit_actor()
    theta = actor.vector().expand(2 * SEEDS, -1).clone()
    theta[SEEDS:, -2] = TARGET[0]  # the bias of the first action, which is what costs
    multiplier = torch.full((2 * SEEDS,), method.multiplier_init)
    generator = torch.Generator().manual_seed(0)
    path = []
    for _ in range(steps):
        step = method.step(actor, theta, multiplier, play(actor, theta, generator))
        theta, multiplier = step.theta, step.multiplier
        path.append(mean_action(actor, theta))
    return torch.stack(path)


@pytest.mark.parametrize("name", ["cpo", "pcpo"])
def test_the_projecting_methods_go_to_the_limit_and_stay_there(name):
    path = learn(name, steps=60)
    cost, free = path[..., 0], path[..., 1]
    assert (cost[:, :SEEDS] < LIMIT + 0.08).all(), "it went past the limit on the way"
    assert (cost[20:, SEEDS:] < LIMIT + 0.08).all(), "it did not come back soon"
    assert ((cost[-20:] - LIMIT).abs() < 0.05).all()
    assert ((free[-1] - TARGET[1]).abs() < 0.15).all(), "what the limit leaves free was not optimised"


def test_safemeta_goes_to_the_limit_and_stays_within_it():
    path = learn("safemeta", steps=60, kl_weight=2.0)
    cost, free = path[..., 0], path[..., 1]
    assert (cost[:, :SEEDS] < LIMIT + 0.08).all(), "it went past the limit on the way"
    assert (cost[20:, SEEDS:] < LIMIT + 0.08).all(), "it did not come back soon"
    assert ((cost[-20:].mean(dim=0) - LIMIT).abs() < 0.05).all()
    assert ((free[-1] - TARGET[1]).abs() < 0.15).all(), "what the limit leaves free was not optimised"


def test_trpo_lagrangian_swings_around_the_limit():
    path = learn("trpo_lag", steps=160, multiplier_lr=0.05)
    # a multiplier that integrates the excess swings (Stooke, Achiam & Abbeel 2020): its average is at the limit
    average = path[60:].mean(dim=0)
    assert ((average[:, 0] - LIMIT).abs() < 0.1).all()
    assert ((average[:, 1] - TARGET[1]).abs() < 0.15).all()


def test_a_proportional_term_damps_the_swing():
    integral, both = (learn("trpo_lag", steps=160, multiplier_lr=0.05, multiplier_kp=kp)[60:] for kp in (0.0, 0.5))
    assert (both[..., 0].std(dim=0) < 0.5 * integral[..., 0].std(dim=0)).all()
    assert ((both[..., 0].mean(dim=0) - LIMIT).abs() < 0.05).all()
    assert ((both[..., 1].mean(dim=0) - TARGET[1]).abs() < 0.15).all()


def test_trpo_ignores_the_limit():
    path = learn("trpo", steps=60)
    assert ((path[-1] - TARGET).abs() < 0.1).all()


@pytest.mark.parametrize(
    ("name", "steps", "settings", "end"),
    [
        ("ppo_lag", 80, {"multiplier_lr": 0.05, "multiplier_kp": 0.5}, LIMIT),
        ("focops", 80, {"multiplier_lr": 0.05, "multiplier_kp": 0.5}, LIMIT),
        ("p3o", 80, {"margin": 0.9}, 0.9 * LIMIT),
        ("crpo", 240, {"tolerance": 0.0}, LIMIT),  # about every second step only lowers the cost
    ],
)
def test_the_first_order_methods_and_crpo_go_to_the_limit_and_stay_there(name, steps, settings, end):
    path = learn(name, steps=steps, **settings)[-30:]
    assert ((path[..., 0].mean(dim=0) - end).abs() < 0.02).all()
    assert (path[..., 0].std(dim=0) < 0.04).all()
    assert ((path[..., 1].mean(dim=0) - TARGET[1]).abs() < 0.15).all()
