"""The outer methods that take a trust-region step: SafeMeta and Meta-CPO."""

import dataclasses

import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data
from tests.inner.bandit import LIMIT, TARGET, bandit_actor, mean_action, play

from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.inner.trust_region import surrogate
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.meta_cpo import MetaCPO
from cmaml_pl.outer.safemeta import SafeMeta, score_gradient

TASKS = 3


def batch_of(actor, *, cost=1.0, post_cost=1.0, spread=0.1):
    """A meta-batch of random data, in which every theta^p lies apart from theta; the limit is 5."""
    theta = actor.vector()
    adapted = theta + spread * torch.randn(TASKS, len(theta), generator=torch.Generator().manual_seed(4))
    pre = make_task_data(actor, theta.expand(TASKS, -1), samples=300, episode_cost=cost, seed=2)
    post = make_task_data(actor, adapted, samples=300, episode_cost=post_cost, seed=3)
    return theta, MetaBatch(theta, pre, [MetaGoal(adapted, torch.zeros(TASKS), post)])


def move(outer, actor, theta, batch):
    """The meta-parameters after a meta-step."""
    return theta - outer.precondition(actor, theta, outer.direction(actor, theta, batch), batch)


@pytest.mark.parametrize("outer", [SafeMeta(max_kl=0.02), MetaCPO(max_kl=0.02)])
@pytest.mark.parametrize("cost", [1.0, 9.0])
def test_the_step_ends_within_the_trust_region_of_the_meta_policy(outer, cost):
    actor = make_actor(hidden=(8,))
    theta, batch = batch_of(actor, cost=cost, post_cost=cost)
    new = move(outer, actor, theta, batch)
    kl = mean_kl(actor, new.expand(TASKS, -1), batch.pre).mean()
    assert 0.005 < kl <= 0.02


def test_safemetas_gradient_is_the_score_of_the_meta_policy_on_the_adapted_policies_actions():
    actor = make_actor(observation_size=1, action_size=1, hidden=())  # mu(s) = W s + b
    theta, batch = batch_of(actor)
    rows = score_gradient(actor, theta, batch.goals[0], RowThreads(2))
    post, (log_std, w, b) = batch.goals[0].post, theta
    s, sigma = post.features[..., 0], log_std.exp()
    z = (post.action[..., 0] - (w * s + b)) / sigma
    score = torch.stack([z**2 - 1, z * s / sigma, z / sigma])
    torch.testing.assert_close(rows, (score * post.reward_signal).mean(dim=2).T, rtol=1e-4, atol=1e-5)


def test_safemeta_raises_the_adapted_policies_good_actions_while_the_meta_policy_is_within_its_limit():
    actor = make_actor(hidden=(8,))
    theta, batch = batch_of(actor, cost=4.9)
    new = move(SafeMeta(max_kl=1e-3), actor, theta, batch)
    post = batch.goals[0].post
    before, after = (
        (gaussian_log_prob(*actor.stacked(x.expand(TASKS, -1), post.features), post.action) * post.reward_signal).mean()
        for x in (theta, new)
    )
    assert after > before


def test_safemeta_takes_a_step_against_the_cost_while_the_meta_policy_is_over_its_limit():
    actor = make_actor(hidden=(8,))
    theta, batch = batch_of(actor, cost=5.1)
    outer = SafeMeta(max_kl=1e-3)
    new = move(outer, actor, theta, batch)
    assert surrogate(actor, new.expand(TASKS, -1), batch.pre, batch.pre.cost_signal).mean() < -1e-3
    # and the reward plays no part in it
    silent = dataclasses.replace(batch.goals[0].post, reward_advantage=torch.zeros(TASKS, 300))
    other = dataclasses.replace(batch, goals=[dataclasses.replace(batch.goals[0], post=silent)])
    torch.testing.assert_close(new, move(outer, actor, theta, other))


@pytest.mark.parametrize("cost", [0.0, 4.0, 4.9, 5.1, 30.0])
def test_with_one_task_that_has_not_adapted_meta_cpo_takes_the_step_of_cpo(cost):
    actor = make_actor(hidden=(8,))
    theta = actor.vector()
    data = make_task_data(actor, theta[None], samples=300, episode_cost=cost, cost_limit=5.0)
    outer = MetaCPO(max_kl=0.02)
    batch = MetaBatch(theta, data, [MetaGoal(theta[None], torch.zeros(1), data)])
    region = {"max_kl": 0.02, "cg_iterations": outer.cg_iterations, "cg_damping": outer.cg_damping}
    expected = make_method("cpo", region=region).step(actor, theta[None], torch.zeros(1), data)
    torch.testing.assert_close(move(outer, actor, theta, batch), expected.theta[0], rtol=1e-4, atol=1e-6)


def meta_learn(outer, inner, *, start, iterations=60, tasks=4):
    """The mean actions before and after adaptation in each meta-iteration of C-MAML's loop on the bandit, K = 1."""
    actor = bandit_actor()
    theta = actor.vector()
    theta[-2] = start
    generator, path = torch.Generator().manual_seed(1), []
    for _ in range(iterations):
        rows = theta.expand(tasks, -1)
        pre = play(actor, rows, generator)
        adapted = inner.step(actor, rows, torch.zeros(tasks), pre).theta
        post = play(actor, adapted, generator)
        path.append(torch.stack([mean_action(actor, rows).mean(0), mean_action(actor, adapted).mean(0)]))
        theta = move(outer, actor, theta, MetaBatch(theta, pre, [MetaGoal(adapted, torch.zeros(tasks), post)]))
    return torch.stack(path)


@pytest.mark.parametrize("start", [0.0, 1.5])
def test_meta_cpo_with_cpo_brings_the_adapted_policies_to_the_constrained_optimum(start):
    path = meta_learn(MetaCPO(max_kl=0.01), make_method("cpo", region={"max_kl": 0.01}), start=start)
    adapted = path[-15:, 1].mean(dim=0)
    torch.testing.assert_close(adapted, torch.tensor([LIMIT, float(TARGET[1])]), rtol=0.0, atol=0.1)
    assert (path[20:, 1, 0] < LIMIT + 0.1).all(), "the adapted policies were over the limit"


@pytest.mark.parametrize("start", [0.0, 1.5])
def test_safemeta_keeps_the_meta_policy_and_the_adapted_ones_within_the_limit_at_the_constrained_optimum(start):
    inner = make_method("safemeta", kl_weight=4.0, cost_kl_weight=0.5, region={"max_kl": 0.05})
    path = meta_learn(SafeMeta(max_kl=0.01), inner, start=start, iterations=120)
    for policies in path[-15:].mean(dim=0):
        torch.testing.assert_close(policies, torch.tensor([LIMIT, float(TARGET[1])]), rtol=0.0, atol=0.12)
    assert (path[30:, 1, 0] < LIMIT + 0.1).all(), "the adapted policies were over the limit"
