"""What a policy remembers, while it collects and when the updates run it again."""

from contextlib import closing

import pytest
import torch
from tests.rollout.recall import Recall, RecallFamily

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.inner.base import likelihood_ratio, mean_kl
from cmaml_pl.math.advantages import steps_so_far
from cmaml_pl.nets.networks import NoValue, ValueNetwork
from cmaml_pl.nets.own_actor import make_own_actor
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.rollout.task_data import AdvantageEstimator, pool
from cmaml_pl.tasks.base import split_tasks

TASKS, ENVS, HORIZON = 4, 3, 7
ALL = split_tasks(RecallFamily(train=TASKS), "train", cost_limit=1.0)


@pytest.fixture
def actor():
    made = make_own_actor("examples.own_parts.memory:Memory", 1, 1, options={"width": 8}, seed=0)
    made.normaliser.update(torch.tensor([[0.0], [1.0], [4.0]]))
    return made


@pytest.fixture
def theta(actor):
    """Parameters of every task, (tasks, P)."""
    size = actor.vector().numel()
    return actor.vector() + 0.5 * torch.randn(TASKS, size, generator=torch.Generator().manual_seed(1))


def make_rollouts(actor, ranks=ALONE):
    """Of worlds some of whose episodes end early."""
    result = Rollouts(Recall(TASKS // ranks.size, ENVS, horizon=HORIZON, chance=0.25), actor, seed=0, ranks=ranks)
    result.set_tasks(ALL)
    return result


@pytest.fixture
def rollouts(actor):
    with closing(make_rollouts(actor)) as made:
        yield made


def read(actor, rollout):
    """The data of the updates."""
    critic = ValueNetwork(2, hidden=(4,), generator=torch.Generator().manual_seed(0))
    numbers = {"gamma": 0.99, "cost_gamma": 0.99, "lmbda": 0.95, "ridge": 0.1, "horizon": HORIZON}
    return AdvantageEstimator(actor, NoValue(), critic, **numbers).task_data(rollout, torch.ones(TASKS))


def test_the_updates_remember_what_the_collecting_policy_did(actor, theta, rollouts):
    rollout = rollouts.collect(theta, "a")
    assert torch.equal(rollout["is_init"], steps_so_far(rollout["next", "done"]) == 0)
    assert rollout["is_init"][:, :, 1:].any(), "no episode ended early"
    data = read(actor, rollout)
    everyone = pool(data)
    loc, scale = actor.stacked(theta, data.features)
    torch.testing.assert_close(loc, data.loc)
    torch.testing.assert_close(scale, data.scale)
    torch.testing.assert_close(likelihood_ratio(actor, theta, data), torch.ones(TASKS, ENVS * HORIZON))
    assert everyone.features.shape == (1, TASKS * ENVS, HORIZON, 2)
    assert torch.equal(mean_kl(actor, theta + 0.1, data, every=4), mean_kl(actor, theta + 0.1, data))
    first = rollout["loc"][:, :, 1:].where(~rollout["is_init"][:, :, 1:], 0.0)
    assert first.unique().numel() > 10, "actions do not depend on what was seen before"


def test_nothing_is_remembered_from_one_rollout_to_the_next(theta, rollouts):
    before = rollouts.collect(theta, "a")["loc"].clone()
    rollouts.collect(torch.full_like(theta, torch.nan), "b")
    assert torch.equal(rollouts.collect(theta, "a")["loc"], before)


def test_the_fallback_remembers_for_itself(actor, theta, rollouts):
    worlds = torch.arange(TASKS * ENVS).view(TASKS, ENVS) % 2 == 0
    fallback = theta.flip(0)
    rollout = rollouts.collect(theta, "a", fallback=fallback, worlds=worlds)
    data = read(actor, rollout)
    for parameters, own in ((theta, worlds), (fallback, ~worlds)):
        loc = actor.stacked(parameters, data.features)[0].unflatten(1, (ENVS, HORIZON))
        torch.testing.assert_close(loc[own], rollout["loc"][own])


def test_ranks_play_their_rows_by_themselves(actor, theta):
    for rank in range(2):
        ranks = Ranks(rank, 2)
        with closing(make_rollouts(actor, ranks)) as rollouts:
            rows = theta[ranks.part(TASKS // 2)]
            rollout = rollouts.collect(rows, "a")
            features = torch.cat([actor.normaliser(rollout["observation"]), rollout["is_init"].float()], dim=-1)
            torch.testing.assert_close(actor.stacked(rows, features)[0], rollout["loc"].flatten(1, 2))


def test_the_actions_of_a_rollout_can_be_replayed(theta, rollouts):
    rollout = rollouts.collect(theta, "a")
    cue = torch.stack(rollouts.replay(rollout["action"], lambda: rollouts.env.cue.clone(), "a")[1:], dim=2)
    assert torch.equal(-(rollout["action"] - cue).square(), rollout["next", "reward"])
