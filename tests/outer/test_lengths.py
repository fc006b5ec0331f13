"""Learned lengths of the adaptation steps, against finite differences and problems whose best length is known."""

import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data
from tests.inner.bandit import TARGET, bandit_actor, play

from cmaml_pl.inner.base import InnerStep, likelihood_ratio
from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.fomaml import FOMAML, lagrangian_gradients
from cmaml_pl.outer.lengths import LONGEST, MOST, bound_slope, length_slopes, move_lengths
from cmaml_pl.outer.meta_srl import MetaSRL

TASKS = 3


def adapt(actor, theta, inner, factors):
    """Two steps from `theta`, each on data of its own that does not depend on their lengths, and what they are."""
    rows, steps = theta.expand(TASKS, -1), []
    for k, factor in enumerate(factors):
        data = make_task_data(actor, rows, samples=200, episode_cost=0.0, cost_limit=1000.0, seed=k)
        steps.append(inner.stretched(factor).step(actor, rows, torch.zeros(TASKS), data))
        rows = steps[-1].theta
    return steps


@pytest.mark.parametrize("name", ["trpo_lag", "trpo", "crpo", "cpo", "pcpo", "ppo_lag", "focops", "p3o"])
def test_the_slopes_are_those_of_longer_and_shorter_steps(name):
    actor = make_actor(observation_size=1, action_size=2, hidden=())
    theta = actor.vector()
    # one pass of Adam, so that its direction does not depend on its step size, as that of the others does not
    inner = make_method(name, region={"max_kl": 0.05, "parameters": "mean", "passes": 1, "lr": 0.05})
    first, second = adapt(actor, theta, inner, (1.0, 1.0))
    post = make_task_data(actor, second.theta, samples=500, seed=7)
    goal = MetaGoal(second.theta, torch.ones(TASKS), post, steps=[first, second])

    def loss(x):
        advantage = (post.reward_signal - post.cost_signal) / 2
        return -(likelihood_ratio(actor, x, post) * advantage).mean(dim=1).detach()

    def longer(k, factor):
        if k == 1:
            return adapt(actor, theta, inner, (1.0, factor))[1].theta
        return adapt(actor, theta, inner, (factor,))[0].theta + (second.theta - first.theta)

    width = 0.05
    up, down = (torch.stack([loss(longer(k, factor)) for k in range(2)], dim=1) for factor in (1 + width, 1 - width))
    slopes = length_slopes(theta, goal, lagrangian_gradients(actor, goal, MetaBatch(theta, post, [goal]).threads))
    torch.testing.assert_close(slopes, (up - down) / (2 * width), rtol=0.05, atol=2e-3)
    assert (slopes.abs() > 1e-2).any(), "nothing was compared"


def learn_on_the_bandit(seed, *, max_kl, iterations=80):
    """How far the learned step moves the mean action of tasks whose best one is 0.4 away."""
    actor, generator = bandit_actor(), torch.Generator().manual_seed(seed)
    theta = actor.vector()
    theta[-2:] = TARGET - torch.tensor([0.24, 0.32])
    inner, outer = make_method("trpo", region={"max_kl": max_kl, "parameters": "mean"}), FOMAML(radius_lr=1.0)
    lengths, way = torch.ones(1), []
    for _ in range(iterations):
        rows = theta.expand(4, -1)
        step = inner.stretched(float(lengths[0])).step(actor, rows, torch.zeros(4), play(actor, rows, generator))
        post = play(actor, step.theta, generator)
        goal = MetaGoal(step.theta, torch.zeros(4), post, steps=[step])
        lengths = move_lengths(lengths, outer.length_gradient(actor, MetaBatch(theta, post, [goal])), lr=1.0)
        way.append((step.theta[:, -2:] - theta[-2:]).norm(dim=1).mean())
    return float(torch.stack(way[iterations // 2 :]).mean())


@pytest.mark.parametrize("max_kl", [0.04, 0.8])
def test_a_step_too_short_or_too_long_learns_to_reach_the_optimum(max_kl):
    for seed in range(3):
        assert learn_on_the_bandit(seed, max_kl=max_kl) == pytest.approx(0.4, abs=0.04)


def test_an_earlier_policy_does_not_blame_later_steps():
    actor = make_actor()
    theta = actor.vector()
    steps = adapt(actor, theta, make_method("trpo"), (1.0, 1.0))
    goals = [
        MetaGoal(x, torch.zeros(TASKS), make_task_data(actor, x, samples=200, seed=5), steps=steps[:k])
        for k, x in ((2, steps[1].theta), (0, theta.expand(TASKS, -1)), (1, steps[0].theta))
    ]

    def gradient(*chosen):
        return FOMAML().length_gradient(actor, MetaBatch(theta, goals[0].post, chosen))

    last, none, first = (gradient(goals[0], goal) * 2 - gradient(goals[0]) for goal in goals)
    torch.testing.assert_close(last, gradient(goals[0]))
    assert (none.abs() < 1e-6).all()
    assert abs(float(first[0])) > 1e-3
    assert abs(float(first[1])) < 1e-6


def test_the_slope_of_the_regret_bound_is_its_derivative():
    for distance, alpha, steps, norm in ((0.3, 0.5, 3, 1.2), (0.02, 2.0, 5, 0.1), (4.0, 0.1, 1, 3.0)):
        size = torch.tensor(alpha, dtype=torch.float64, requires_grad=True)
        bound = distance / size + size * steps * norm**2 / 2
        (slope,) = torch.autograd.grad(bound, size)
        walked = torch.tensor(alpha**2 * steps * norm**2 / 2, dtype=torch.float64)
        found = bound_slope(torch.tensor(distance, dtype=torch.float64), walked) * walked / alpha
        torch.testing.assert_close(found, alpha * slope)
    assert bound_slope(torch.tensor(1.0), torch.tensor(0.0)) == 0.0


@pytest.mark.parametrize("max_kl", [0.01, 0.3])
def test_meta_srls_radius_becomes_the_mean_divergence_of_the_tasks_a_step(max_kl):
    """Tasks whose policies lie at known divergences shift^2 / (2 sigma^2) from the start, whatever the steps are."""
    actor, outer, k = bandit_actor(), MetaSRL(radius_lr=0.1), 3
    theta, variance = actor.vector(), (2 * actor.vector()[0]).exp()
    for seed in range(3):
        generator, lengths, radii, divergences = torch.Generator().manual_seed(seed), torch.ones(k), [], []
        for _ in range(250):
            adapted = theta.expand(8, -1).clone()
            adapted[:, -1] += 0.2 + 0.4 * torch.rand(8, generator=generator)
            walk = [InnerStep(adapted, *[torch.full((8,), float(lengths[0] ** 2 * max_kl))] * 4) for _ in range(k)]
            post = make_task_data(actor, adapted, samples=4)
            batch = MetaBatch(theta, post, [MetaGoal(adapted, torch.zeros(8), post, steps=walk)])
            lengths = move_lengths(lengths, outer.length_gradient(actor, batch), lr=outer.radius_lr)
            radii.append(float(lengths[0] ** 2 * max_kl))
            divergences.append(float((adapted[:, -1] - theta[-1]).square().mean() / (2 * variance)))
        assert (lengths == lengths[0]).all()
        assert sum(radii[100:]) / 150 == pytest.approx(sum(divergences) / 250 / k, rel=0.08)


def test_a_length_moves_against_its_gradient_a_little_at_a_time_and_within_bounds():
    lengths = torch.ones(3)
    moved = move_lengths(lengths, torch.tensor([0.2, -0.1, 9.0]), lr=0.1)
    torch.testing.assert_close(moved.log(), torch.tensor([-0.02, 0.01, -MOST]))
    assert torch.equal(lengths, torch.ones(3))
    for _ in range(30):
        moved = move_lengths(moved, torch.tensor([9.0, -9.0, 0.0]), lr=1.0)
    torch.testing.assert_close(moved[:2], torch.tensor([1 / LONGEST, LONGEST]))
    assert move_lengths(lengths, torch.full((3,), torch.nan), lr=0.1).isnan().all(), "it would not be noticed"
