"""The bounds against closed forms, and how often they are wrong, looked at after every episode."""

import math

import pytest
import torch

from cmaml_pl.math.betting import STAKES, WEIGHTS, exceeds, upper_bound

DELTA, LARGEST, TASKS = 0.1, 15.0, 600
LOOKS = (1, 2, 4, 8, 16, 24, 40)
"""Numbers of episodes at which the bounds are looked at."""


def everything(cost):
    return torch.ones_like(cost, dtype=torch.bool)


def bound(cost, counted=None, *, largest=LARGEST, delta=DELTA):
    tasks = len(cost)
    known = {"largest": torch.full((tasks,), largest), "delta": torch.full((tasks,), delta)}
    return upper_bound(cost, everything(cost) if counted is None else counted, **known)


@pytest.mark.parametrize("episodes", [1, 2, 8, 40, 400])
def test_of_episodes_that_cost_nothing_the_bound_is_that_of_a_coin(episodes):
    # if all is bet, the capital is (1 - m / b)^-n; half of it is bet in this way
    found = bound(torch.zeros(1, episodes)).item()
    assert LARGEST * (1 - DELTA ** (1 / episodes)) <= found <= LARGEST * (1 - (DELTA / 2) ** (1 / episodes)) + 1e-4


def test_at_the_bound_the_capital_is_one_over_delta():
    cost = torch.tensor([[0.0, 3.0, 0.5, 12.0, 1.0, 0.0, 2.0, 0.0]])
    m = bound(cost).double().item()
    odds = [(LARGEST - c) / (LARGEST - m) for c in cost[0].tolist()]
    capital = sum(w * math.prod(1 - c + c * o for o in odds) for c, w in zip(STAKES, WEIGHTS, strict=True))
    assert sum(WEIGHTS) == 1.0
    assert capital == pytest.approx(1 / DELTA, rel=1e-3)


def test_only_the_episodes_count_that_are_said_to_and_none_say_nothing():
    cost = torch.tensor([[1.0, 9.0, 2.0], [1.0, 9.0, 2.0]])
    counted = torch.tensor([[True, False, True], [False, False, False]])
    before = cost.clone()
    found = bound(cost, counted)
    assert found[0] == bound(torch.tensor([[1.0, 2.0]]))[0]
    assert found[1] == LARGEST
    limit, delta = torch.full((2,), 3.0), torch.full((2,), DELTA)
    assert not exceeds(cost, counted, limit=limit, delta=delta).any()
    assert torch.equal(cost, before)


def draw(kind, mean):
    """Costs of a given mean, (TASKS, episodes), between 0 and LARGEST."""
    generator = torch.Generator().manual_seed(3)
    shape = (TASKS, LOOKS[-1])
    if kind == "normal":
        noise = torch.randn(shape, generator=generator).clamp(-2.9, 2.9)
        return mean + noise
    size = {"all or nothing": LARGEST, "skewed": 2 * mean}[kind]
    return size * (torch.rand(shape, generator=generator) < mean / size)


@pytest.mark.parametrize("kind", ["normal", "all or nothing", "skewed"])
def test_the_bound_is_below_the_mean_at_any_time_in_at_most_delta_of_the_tasks(kind):
    cost, mean = draw(kind, 3.0), 3.0
    wrong = torch.zeros(TASKS, dtype=torch.bool)
    for n in LOOKS:
        wrong |= bound(cost[:, :n]) < mean
    assert wrong.float().mean() <= DELTA
    assert bound(cost).median() < 3 * mean  # and it is not so only because it is useless


@pytest.mark.parametrize("kind", ["normal", "all or nothing", "skewed"])
def test_a_mean_at_the_limit_is_found_to_be_over_it_in_at_most_delta_of_the_tasks(kind):
    limit, delta = torch.full((TASKS,), 3.0), torch.full((TASKS,), DELTA)

    def ever(cost):
        parts = [cost[:, :n] for n in LOOKS]
        return torch.stack([exceeds(c, everything(c), limit=limit, delta=delta) for c in parts]).any(dim=0)

    assert ever(draw(kind, 3.0)).float().mean() <= DELTA
    assert ever(draw(kind, 7.0)).float().mean() > 0.7


def test_an_episode_that_cost_without_end_is_over_the_limit_whatever_the_others_cost():
    cost = torch.tensor([[torch.inf, 0.0], [torch.inf, 9.0], [0.0, 0.0]])
    found = exceeds(cost, everything(cost), limit=torch.full((3,), 3.0), delta=torch.full((3,), DELTA))
    assert found.tolist() == [True, True, False]
