"""Every registered inner method, without anyone listing them."""

import dataclasses

import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data

from cmaml_pl.configuration.registry import INNER_METHODS
from cmaml_pl.inner.base import lagrangian_advantage, likelihood_ratio
from cmaml_pl.rollout.task_data import TaskData, select


@pytest.fixture(params=sorted(INNER_METHODS))
def method(request):
    return make_method(request.param, region={"max_kl": 0.02, "fisher_every": 1})


def start(tasks=3):
    actor = make_actor(hidden=(8,))
    theta = actor.vector().expand(tasks, -1).clone()
    return actor, theta, torch.full((tasks,), 0.5)


def test_a_step_stays_in_the_trust_region_and_leaves_its_inputs_alone(method):
    actor, theta, multiplier = start()
    data = make_task_data(actor, theta, samples=200)
    theta_before, multiplier_before, actor_before = theta.clone(), multiplier.clone(), actor.vector()
    step = method.step(actor, theta, multiplier, data)
    assert (step.kl <= method.trust_region.max_kl).all()
    assert (step.kl > 0.2 * method.trust_region.max_kl).all(), "the step hardly moved"
    assert torch.equal(theta, theta_before)
    assert torch.equal(multiplier, multiplier_before)
    assert torch.equal(actor.vector(), actor_before)
    assert step.theta.data_ptr() != theta.data_ptr()


def test_adapted_policies_differ_from_task_to_task_and_from_the_start(method):
    actor, theta, multiplier = start()
    step = method.step(actor, theta, multiplier, make_task_data(actor, theta, samples=200))
    assert not torch.equal(step.theta[0], step.theta[1])
    assert not torch.equal(step.theta[0], theta[0])


def test_without_a_signal_the_parameters_stay(method):
    actor, theta, multiplier = start()
    data = dataclasses.replace(
        make_task_data(actor, theta), reward_advantage=torch.zeros(3, 40), cost_advantage=torch.zeros(3, 40)
    )
    step = method.step(actor, theta, multiplier, data)
    assert torch.equal(step.theta, theta)
    assert (step.step_share == 0).all()


def test_nan_in_one_task_leaves_the_other_tasks_alone(method):
    actor, theta, multiplier = start()
    data = make_task_data(actor, theta, samples=200)
    good = method.step(actor, theta, multiplier, data)
    data.reward_advantage[1, 7] = float("nan")
    step = method.step(actor, theta, multiplier, data)
    assert torch.equal(step.theta[1], theta[1])
    assert step.step_share[1] == 0
    torch.testing.assert_close(step.theta[[0, 2]], good.theta[[0, 2]])


@pytest.mark.parametrize("limit", [0.0, float("inf")])
def test_limits_of_zero_and_infinity_give_numbers(method, limit):
    actor, theta, multiplier = start()
    step = method.step(actor, theta, multiplier, make_task_data(actor, theta, cost_limit=limit))
    assert step.theta.isfinite().all()
    assert step.multiplier.isfinite().all()
    assert (step.multiplier >= 0).all()


@pytest.mark.parametrize("cost", [0.0, 4.0, 5.0, 5.5, 1000.0])
def test_a_batch_of_tasks_equals_the_tasks_one_by_one(method, cost):
    actor, theta, multiplier = start()
    data = make_task_data(actor, theta, samples=200, episode_cost=cost, cost_limit=5.0)
    batch = method.step(actor, theta, multiplier, data)
    for p in range(3):
        rows = slice(p, p + 1)
        own = TaskData(**{item.name: getattr(data, item.name)[rows] for item in dataclasses.fields(TaskData)})
        single = method.step(actor, theta[rows], multiplier[rows], own)
        for item in dataclasses.fields(single):
            torch.testing.assert_close(
                getattr(single, item.name), getattr(batch, item.name)[rows], atol=1e-4, rtol=1e-3, msg=item.name
            )


def test_how_the_tasks_are_shared_out_changes_no_bit(method):
    actor, theta, multiplier = start(tasks=5)
    data = make_task_data(actor, theta, samples=201, episode_cost=5.2)
    whole = method.step(actor, theta, multiplier, data)
    for parts in ([slice(0, 2), slice(2, 5)], [slice(0, 1), slice(1, 5)]):
        steps = [method.step(actor, theta[part], multiplier[part], select(data, part)) for part in parts]
        for name, value in vars(whole).items():
            assert torch.equal(torch.cat([getattr(step, name) for step in steps]), value), name


def test_trpo_lag_raises_the_surrogate_that_it_maximises():
    method = make_method("trpo_lag", region={"max_kl": 0.02})
    actor, theta, multiplier = start()
    data = make_task_data(actor, theta, samples=200)
    step = method.step(actor, theta, multiplier, data)
    advantage = lagrangian_advantage(data, step.multiplier)
    gain = (likelihood_ratio(actor, step.theta, data) * advantage).mean(dim=1) - advantage.mean(dim=1)
    assert (gain > 0).all()


def test_the_proportional_term_of_trpo_lag_weighs_this_step_alone():
    actor, theta, multiplier = start()
    data = make_task_data(actor, theta, samples=200, episode_cost=7.0, cost_limit=5.0)
    step = make_method("trpo_lag", multiplier_lr=0.0, multiplier_kp=0.3).step(actor, theta, multiplier, data)
    same = make_method("trpo_lag", multiplier_lr=0.0).step(actor, theta, multiplier + 0.6, data)
    torch.testing.assert_close(step.theta, same.theta)
    assert torch.equal(step.multiplier, multiplier)


def test_trpo_lag_makes_costly_actions_rarer_when_lambda_is_large():
    method = make_method("trpo_lag", region={"max_kl": 0.02}, multiplier_max=1e6)
    actor, theta, _ = start()
    data = make_task_data(actor, theta, samples=200)
    data = dataclasses.replace(data, cost_advantage=data.action[..., 0])  # costly is: to the right
    step = method.step(actor, theta, torch.full((3,), 1e5), data)
    loc, _ = actor.stacked(step.theta, data.features)
    assert (loc[..., 0].mean(dim=1) < data.loc[..., 0].mean(dim=1) - 0.02).all()
