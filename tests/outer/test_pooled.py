"""Pretraining is the inner method on the data of all tasks, taken for one."""

import dataclasses

import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data

from cmaml_pl.configuration.registry import INNER_METHODS
from cmaml_pl.inner.trpo_lag import TRPOLag
from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.pooled import Pooled, PooledSteps
from cmaml_pl.rollout.task_data import TaskData, pool

TASKS, SAMPLES = 3, 60


@pytest.fixture
def actor():
    return make_actor(hidden=(8,))


@pytest.fixture
def theta(actor):
    return actor.vector().expand(TASKS, -1).clone()


@pytest.fixture
def data(actor, theta):
    """Three tasks that cost 1, 2 and 6 an episode, within a limit of 2.5."""
    made = make_task_data(actor, theta, samples=SAMPLES, cost_limit=2.5)
    return dataclasses.replace(made, episode_cost=torch.tensor([1.0, 2.0, 6.0]))


def merged_by_hand(data: TaskData) -> TaskData:
    numbers = ("episode_steps", "episode_return", "episode_cost", "cost_limit")
    parts = {name: value for name, value in vars(data).items() if name != "cost_scale"}
    merged = {
        name: value.mean()[None] if name in numbers else torch.cat(list(value))[None] for name, value in parts.items()
    }
    return TaskData(**merged, cost_scale=merged["cost_advantage"].std(correction=0)[None])


def test_pooling_puts_all_samples_into_one_row_and_averages_the_numbers_of_the_tasks(data):
    pooled, expected = pool(data), merged_by_hand(data)
    assert pooled.features.shape == (1, TASKS * SAMPLES, 3)
    assert pooled.log_prob.shape == (1, TASKS * SAMPLES)
    assert pooled.episode_cost.tolist() == [3.0]
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(pooled, name), value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", sorted(INNER_METHODS))
def test_a_pooled_step_is_the_inner_step_on_the_merged_data(name, actor, theta, data):
    inner, multiplier = make_method(name, region={"max_kl": 0.02}), torch.full((TASKS,), 0.3)
    pooled = PooledSteps.of(inner).step(actor, theta, multiplier, data)
    alone = inner.step(actor, theta[:1], multiplier[:1], merged_by_hand(data))
    for field in dataclasses.fields(pooled):
        rows, row = getattr(pooled, field.name), getattr(alone, field.name)
        assert len(rows) == TASKS
        torch.testing.assert_close(rows, row.expand_as(rows), rtol=1e-3, atol=1e-5)
        assert (rows == rows[0]).all(), field.name
    assert pooled.kl[0] > 0
    assert torch.equal(theta, actor.vector().expand(TASKS, -1))


def test_the_tasks_share_one_lambda_that_follows_their_mean_cost(actor, theta, data):
    inner = TRPOLag(multiplier_lr=0.1)
    step = PooledSteps.of(inner).step(actor, theta, torch.full((TASKS,), 0.3), data)
    torch.testing.assert_close(step.multiplier, torch.full((TASKS,), 0.3 + 0.1 * (3.0 - 2.5)))


def test_its_gradient_with_its_optimiser_leads_to_where_the_steps_arrived(actor, theta, data):
    pooled = Pooled()
    adapted = theta + 0.2 * torch.randn(theta.shape[1], generator=torch.Generator().manual_seed(3))
    gradient = pooled.direction(
        actor, theta[0], MetaBatch(theta[0], data, [MetaGoal(adapted, torch.zeros(TASKS), data)])
    )
    parameter = torch.nn.Parameter(theta[0].clone())
    optimizer = pooled.optimizer([parameter])
    parameter.grad = gradient
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), adapted[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(INNER_METHODS))
def test_a_broken_task_is_left_out_of_the_pooled_step(name, actor, theta, data):
    inner, multiplier = make_method(name), torch.full((TASKS,), 0.3)
    broken = dataclasses.replace(data, reward_advantage=data.reward_advantage.clone())
    broken.reward_advantage[0, 3] = torch.nan  # of the first task, whose row was taken for everyone's
    found = PooledSteps.of(inner).step(actor, theta, multiplier, broken)
    others = TaskData(**{name: value[1:] for name, value in vars(data).items()})
    expected = PooledSteps.of(inner).step(actor, theta[1:], multiplier[1:], others)
    assert torch.equal(found.theta, expected.theta[:1].expand(TASKS, -1))
    assert torch.equal(found.multiplier, expected.multiplier[:1].expand(TASKS))


def test_a_rank_without_a_sound_task_has_no_say_in_the_direction(theta, data):
    nothing = TaskData(**{name: value[:0] for name, value in vars(data).items()})
    batch = MetaBatch(theta[0], nothing, [MetaGoal(theta[:0], torch.zeros(0), nothing)])
    gradient = Pooled().direction(make_actor(hidden=(8,)), theta[0], batch)
    assert torch.equal(gradient, torch.zeros_like(theta[0]))
