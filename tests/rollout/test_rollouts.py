from contextlib import closing

import pytest
import torch
from tests.envs.test_checking import Walk
from tests.helpers import make_actor

from cmaml_pl.distributed.ranks import Ranks
from cmaml_pl.errors import UserError
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.seeding import derive_generator
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tasks.nav2d import Nav2DFamily

TASKS, ENVS, HORIZON = 3, 4, 6


@pytest.fixture
def actor():
    return make_actor(observation_size=18, hidden=(8,))


@pytest.fixture
def theta(actor):
    """Parameters of every task, (tasks, P)."""
    return actor.vector().expand(TASKS, -1) + torch.arange(TASKS)[:, None] * 0.05


@pytest.fixture
def rollouts(actor):
    env = Nav2DFamily().make_env(TASKS, ENVS, horizon=HORIZON, workers=None)
    result = Rollouts(env, actor, seed=0)
    result.set_tasks(split_tasks(Nav2DFamily(), "train", cost_limit=2.0)[:TASKS])
    yield result
    result.close()


def test_a_rollout_is_one_episode_of_every_world_with_the_keys_that_updates_read(rollouts, theta):
    batch = rollouts.collect(theta, "test")
    assert batch.shape == (TASKS, ENVS, HORIZON)
    assert batch["observation"].shape == (TASKS, ENVS, HORIZON, 18)
    assert batch["action_log_prob"].shape == (TASKS, ENVS, HORIZON)
    for key in ("reward", "cost", "done", "terminated", "truncated"):
        assert batch["next", key].shape == (TASKS, ENVS, HORIZON, 1)
    assert batch["next", "truncated"][:, :, -1].all()
    assert not batch["next", "done"][:, :, :-1].any()


def test_every_task_is_run_by_its_own_parameters(rollouts, actor, theta):
    batch = rollouts.collect(theta, "test")
    for p in range(TASKS):
        actor.load_vector(theta[p])
        loc, scale = actor(batch["observation"][p])
        torch.testing.assert_close(batch["loc"][p], loc)
        torch.testing.assert_close(batch["scale"][p], scale)
    log_prob = gaussian_log_prob(batch["loc"], batch["scale"], batch["action"])
    torch.testing.assert_close(batch["action_log_prob"], log_prob)


def test_in_the_other_worlds_the_fallback_plays(rollouts, actor, theta):
    worlds = rollouts.draw_worlds(torch.tensor([0.0, 0.5, 1.0]), "test")
    assert worlds.sum(dim=1).tolist()[::2] == [0, ENVS]
    assert 0 < worlds[1].sum() < ENVS
    assert torch.equal(worlds, rollouts.draw_worlds(torch.tensor([0.0, 0.5, 1.0]), "test"))
    fallback = theta + 1.0
    batch = rollouts.collect(theta, "test", fallback=fallback, worlds=worlds)
    for p in range(TASKS):
        for parameters, rows in ((theta[p], worlds[p]), (fallback[p], ~worlds[p])):
            actor.load_vector(parameters)
            torch.testing.assert_close(batch["loc"][p][rows], actor(batch["observation"][p][rows])[0])
    everywhere = rollouts.collect(theta, "test", fallback=fallback, worlds=worlds | True)
    assert torch.equal(everywhere["action"], rollouts.collect(theta, "test")["action"])


def test_the_stream_alone_decides_the_numbers(rollouts, theta):
    first = rollouts.collect(theta, "a", 1)
    other = rollouts.collect(theta, "a", 2)
    again = rollouts.collect(theta, "a", 1)
    assert torch.equal(first["action"], again["action"])
    assert torch.equal(first["observation"], again["observation"])
    assert not torch.equal(first["action"], other["action"])


def test_a_rollout_keeps_its_numbers_when_the_next_one_is_collected(rollouts, theta):
    first = rollouts.collect(theta, "a")
    before = first.clone()
    rollouts.collect(theta, "b")
    assert torch.equal(first["observation"], before["observation"])
    assert torch.equal(first["next", "reward"], before["next", "reward"])


def test_a_short_batch_of_tasks_is_filled_up_by_repeating_it(rollouts):
    tasks = split_tasks(Nav2DFamily(), "validation", cost_limit=2.0)
    assert rollouts.set_tasks(tasks[:2]) == ([tasks[0], tasks[1], tasks[0]], 2)


@pytest.mark.parametrize("number", [0, TASKS + 1])
def test_no_tasks_and_too_many_are_refused(rollouts, number):
    tasks = split_tasks(Nav2DFamily(), "validation", cost_limit=2.0)
    with pytest.raises(UserError, match=f"{number} tasks cannot be adapted to at once, but 1 to {TASKS}"):
        rollouts.set_tasks(tasks[:number])


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_collect_what_a_single_process_does(size):
    tasks, actor = split_tasks(Nav2DFamily(), "validation", cost_limit=2.0), make_actor(18, hidden=(8,))
    theta = actor.vector() + torch.arange(6)[:, None] * 0.05

    def collect(ranks):
        env = Nav2DFamily().make_env(6 // ranks.size, ENVS, horizon=HORIZON, workers=None)
        with closing(Rollouts(env, actor, seed=0, ranks=ranks)) as rollouts:
            rows, own = rollouts.set_tasks(tasks[:5])
            return rows, own, rollouts.collect(theta[ranks.part(6 // ranks.size)], "a")

    whole, parts = collect(Ranks()), [collect(Ranks(rank, size)) for rank in range(size)]
    assert [task for rows, _, _ in parts for task in rows] == whole[0]
    assert sum(own for _, own, _ in parts) == whole[1] == 5
    torch.testing.assert_close(torch.cat([batch for _, _, batch in parts])["observation"], whole[2]["observation"])


@pytest.mark.parametrize("divides", [False, True])
def test_an_environment_that_knows_nothing_of_ranks_draws_other_worlds_on_each_of_them(divides):
    class Own(Walk):
        divides_numbers = divides

    def collect(rank):
        actor = make_actor(observation_size=1, action_size=1, hidden=(8,))
        with closing(Rollouts(Own(), actor, seed=0, ranks=Ranks(rank, 2))) as rollouts:
            rollouts.set_tasks(split_tasks(Nav2DFamily(), "train", cost_limit=2.0)[:4])
            batch = rollouts.collect(actor.vector().expand(2, -1), "a")
            replayed = rollouts.replay(batch["action"], lambda: rollouts.env.place.clone(), "a")
            assert torch.equal(torch.stack(replayed[:-1], dim=2), batch["observation"])
            return batch["observation"][:, :, 0]

    first, second = collect(0), collect(1)
    assert torch.equal(first, second) == divides
    alone = torch.rand(first.shape, generator=derive_generator(0, "environment", "a"))
    assert torch.equal(first, alone)  # as without ranks
