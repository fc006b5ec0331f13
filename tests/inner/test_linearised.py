"""Units, approximation and failure paths of the steps with a limit on the cost."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data
from tests.inner.bandit import EPISODE, bandit_actor, mean_action, play
from tests.math.solver import best_step, nearest_point

from cmaml_pl.inner.base import mean_kl
from cmaml_pl.inner.linearised import cost_excess, linearise, safe_line_search
from cmaml_pl.inner.pcpo import project
from cmaml_pl.inner.trust_region import TrustRegion, surrogate
from cmaml_pl.math.advantages import spread, standardise
from cmaml_pl.math.cpo_dual import solve
from cmaml_pl.math.natural_gradient import fisher_product, rowwise_gradient

SAFE = ["cpo", "pcpo"]


def test_the_excess_has_the_unit_of_the_surrogate():
    """A policy whose episodes cost exactly the limit has c + (change of the surrogate) = 0."""
    actor = bandit_actor()
    theta = actor.vector().expand(2, -1).clone()
    data = play(actor, theta, torch.Generator().manual_seed(0), samples=200_000, limit=0.1)
    moved = theta.clone()
    moved[0, -2], moved[1, -2] = 0.1, -0.05  # the mean cost of a step; the limit is on EPISODE of them
    change = surrogate(actor, moved, data, standardise(data.cost_advantage))
    predicted = (cost_excess(data) + change) * spread(data.cost_advantage)[:, 0] * EPISODE
    torch.testing.assert_close(predicted, EPISODE * (mean_action(actor, moved)[:, 0] - 0.1), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", SAFE)
def test_the_units_of_reward_and_cost_do_not_matter(name):
    method, actor = make_method(name, region={"max_kl": 0.02}), make_actor()
    theta = actor.vector().expand(3, -1)
    data = make_task_data(actor, theta, samples=200, episode_cost=5.5)
    other = replace(
        data,
        reward_advantage=1e3 * data.reward_advantage,
        cost_advantage=0.01 * data.cost_advantage,
        cost_scale=0.01 * data.cost_scale,
        episode_cost=0.01 * data.episode_cost,
        cost_limit=0.01 * data.cost_limit,
    )
    first, second = (method.step(actor, theta, torch.zeros(3), x) for x in (data, other))
    torch.testing.assert_close(first.theta, second.theta, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(first.multiplier, second.multiplier, atol=1e-3, rtol=1e-2)


@pytest.fixture(scope="module")
def network_problem():
    """The problem on a policy network with the conjugate gradients that ship, and its exact H, g, b."""
    region = make_method("cpo").trust_region
    actor = make_actor(observation_size=6, hidden=(16,))
    theta = actor.vector().expand(3, -1).clone()
    data = make_task_data(actor, theta, samples=400)
    problem = linearise(actor, theta, data, region)
    product = fisher_product(
        lambda x: mean_kl(actor, x, data, every=region.fisher_every), theta, damping=region.cg_damping
    )
    size = theta.shape[1]
    h = torch.stack([product(unit.expand(3, -1)) for unit in torch.eye(size)], dim=1)
    g, b = (
        rowwise_gradient(lambda x, a=advantage: surrogate(actor, x, data, standardise(a)), theta)[1]
        for advantage in (data.reward_advantage, data.cost_advantage)
    )
    return problem, *(x.double().numpy() for x in (h, g, b))


@pytest.mark.parametrize("share", [-1.3, -0.6, 0.0, 0.3, 0.8])
def test_on_a_network_both_methods_agree_with_a_generic_solver_at_the_iterations_that_ship(network_problem, share):
    problem, h, g, b = network_problem
    delta = 0.01
    c = share * (2 * delta * problem.s).sqrt()  # that share of what the trust region allows the cost to change
    solution = solve(problem.q, problem.r, problem.s, c, max_kl=delta)
    x = problem.step(solution.along_reward, solution.along_cost).double().numpy()
    y = problem.step(*project(problem.q, problem.r, problem.s, c, max_kl=delta)).double().numpy()
    for p in range(3):
        limit = float(c[p])
        reach = np.sqrt(2 * delta * b[p] @ np.linalg.solve(h[p], b[p]))
        gain = np.sqrt(2 * delta * g[p] @ np.linalg.solve(h[p], g[p]))
        assert 0.5 * x[p] @ h[p] @ x[p] <= delta * 1.001
        assert limit + b[p] @ x[p] <= 1e-5 * reach
        assert abs(g[p] @ x[p] - g[p] @ best_step(g[p], b[p], limit, h[p], delta)) <= 1e-3 * gain
        ahead = best_step(g[p], b[p], None, h[p], delta)
        reference = ahead if limit + b[p] @ ahead <= 0 else nearest_point(ahead, b[p], limit, h[p])
        difference = y[p] - reference
        assert limit + b[p] @ y[p] <= 1e-5 * reach
        assert difference @ h[p] @ difference <= 1e-4 * 2 * delta


def bandit_step(first, second, *, c, keep_reward, tries=15):
    """A line search in the bandit along so much of either bias, one row each; the divergence does not bind."""
    actor = bandit_actor()
    theta = actor.vector().expand(len(c), -1).clone()
    data = play(actor, theta, torch.Generator().manual_seed(1), samples=2000)
    step = torch.zeros_like(theta)
    step[:, -2], step[:, -1] = torch.tensor(first), torch.tensor(second)
    region = TrustRegion(max_kl=10.0, line_search_ratio=0.5, line_search_tries=tries)
    found = safe_line_search(actor, theta, data, step, region, c=torch.tensor(c), keep_reward=torch.tensor(keep_reward))
    return data, theta, step, *found


def test_the_line_search_shortens_until_the_cost_and_not_the_reward_keeps_its_room():
    # toward reward and cost with ever more room; the mean cost moves by as much as the first bias
    data, theta, step, adapted, kl, share = bandit_step(
        [0.4] * 3, [0.0] * 3, c=[-0.06, -0.3, -5.0], keep_reward=[True] * 3
    )
    assert (share[:-1] < share[1:]).all()
    assert share[-1] == 1.0
    torch.testing.assert_close(adapted, theta + share[:, None] * step)
    change = (adapted - theta)[:, -2] / spread(data.cost_advantage)[:, 0]
    assert (change < torch.tensor([0.06, 0.3, 5.0]) * 1.2).all()
    assert (2 * change > torch.tensor([0.06, 0.3, 0.0]) * 0.8).all(), "it was shortened too far"
    assert (kl > 0).all()


def test_on_the_way_back_reward_may_fall_but_cost_must_not_rise():
    # away from reward and cost; away from reward alone; toward both
    _, theta, _, adapted, _, share = bandit_step(
        [-0.3, 0.0, 0.3], [0.0, -0.3, 0.0], c=[0.2, -5.0, 0.2], keep_reward=[False, True, False]
    )
    assert share.tolist() == [1.0, 0.0, 0.0]
    assert torch.equal(adapted[1:], theta[1:])
    assert not torch.equal(adapted[0], theta[0])


def test_an_exhausted_line_search_restores_the_parameters():
    _, theta, _, adapted, kl, share = bandit_step([0.4], [0.0], c=[-0.06], keep_reward=[True], tries=2)
    assert torch.equal(adapted, theta)
    assert share == 0
    assert kl == 0


@pytest.mark.parametrize("name", SAFE)
def test_far_beyond_the_limit_the_step_lowers_the_cost_and_says_that_it_is_not_enough(name):
    method, actor = make_method(name, region={"max_kl": 0.02}, multiplier_max=7.0), make_actor()
    theta = actor.vector().expand(3, -1)
    data = make_task_data(actor, theta, samples=200, episode_cost=1000.0, cost_limit=5.0)
    data = replace(data, episode_cost=torch.tensor([1000.0, 1.0, 1000.0]))
    step = method.step(actor, theta, torch.zeros(3), data)
    assert step.infeasible.tolist() == [True, False, True]
    assert (step.kl <= 0.02).all()
    change = surrogate(actor, step.theta, data, standardise(data.cost_advantage))
    assert (change[[0, 2]] < -0.02).all()
    assert (step.step_share > 0).all()
    assert step.multiplier[0] > 1
    assert step.multiplier.max() <= 7.0


@pytest.mark.parametrize("name", SAFE)
def test_a_cost_that_no_action_changes_does_not_restrain_the_step(name):
    actor = make_actor()
    theta = actor.vector().expand(3, -1)
    data = make_task_data(actor, theta, samples=200, episode_cost=10.0, cost_limit=5.0)
    data = replace(data, cost_advantage=torch.full_like(data.cost_advantage, 0.3), cost_scale=torch.zeros(3))
    step = make_method(name, region={"max_kl": 0.02, "cg_iterations": 10}).step(actor, theta, torch.zeros(3), data)
    plain = make_method("trpo", region={"max_kl": 0.02, "cg_iterations": 10}).step(actor, theta, torch.zeros(3), data)
    torch.testing.assert_close(step.theta, plain.theta, atol=1e-5, rtol=1e-4)
    assert (step.multiplier == 0).all()
    assert not step.infeasible.any()


@pytest.mark.parametrize("name", SAFE)
def test_without_a_reward_gradient_the_step_only_returns_to_the_limit(name):
    actor = make_actor()
    theta = actor.vector().expand(2, -1)
    data = make_task_data(actor, theta, samples=200, cost_limit=5.0)
    data = replace(data, reward_advantage=torch.zeros(2, 200), episode_cost=torch.tensor([5.5, 4.0]))
    step = make_method(name, region={"max_kl": 0.02}).step(actor, theta, torch.zeros(2), data)
    assert step.step_share.tolist() == [1.0, 0.0]
    assert torch.equal(step.theta[1], theta[1])
    change = surrogate(actor, step.theta, data, standardise(data.cost_advantage))
    torch.testing.assert_close(change[0], -cost_excess(data)[0], atol=0.02, rtol=0.3)
    assert step.multiplier.isfinite().all()


def test_trpo_sees_nothing_of_the_cost():
    method, actor = make_method("trpo", region={"max_kl": 0.02}), make_actor()
    theta = actor.vector().expand(3, -1)
    data = make_task_data(actor, theta, samples=200)
    other = replace(data, cost_advantage=-5 * data.cost_advantage, episode_cost=100 * data.episode_cost)
    first, second = (method.step(actor, theta, torch.ones(3), x) for x in (data, other))
    assert torch.equal(first.theta, second.theta)
    assert (first.multiplier == 0).all()
