import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data

from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS
from cmaml_pl.inner.base import lagrangian_advantage
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.meta_srl import MetaSRL
from cmaml_pl.outer.reptile import Reptile
from cmaml_pl.outer.safety import safety_gradient, safety_weight


def direction(outer, actor, theta, adapted, weight, post):
    """The direction of a meta-batch with one goal, whose meta-policy was rolled out in 40 steps of each task."""
    pre = make_task_data(actor, theta.expand(len(adapted), -1), episode_cost=1.0, seed=2)
    return outer.direction(actor, theta, MetaBatch(theta, pre, [MetaGoal(adapted, weight, post)]))


@pytest.mark.parametrize("name", sorted(OUTER_METHODS))
def test_every_outer_method_gives_a_finite_direction_and_leaves_its_inputs_alone(name):
    actor = make_actor()
    theta = actor.vector()
    adapted = theta.expand(3, -1) + 0.1
    before = adapted.clone()
    post = make_task_data(actor, adapted)
    gradient = direction(OUTER_METHODS[name](), actor, theta, adapted, torch.zeros(3), post)
    assert gradient.shape == theta.shape
    assert gradient.isfinite().all()
    assert gradient.norm() > 0
    assert torch.equal(adapted, before)


@pytest.mark.parametrize("log_std", [True, False])
@pytest.mark.parametrize("name", sorted(OUTER_METHODS))
def test_every_outer_method_can_leave_the_exploration_noise_as_it_is(name, log_std):
    actor = make_actor()
    adapted = actor.vector().expand(3, -1) + 0.1
    post = make_task_data(actor, adapted)
    gradient = direction(OUTER_METHODS[name](log_std=log_std), actor, actor.vector(), adapted, torch.zeros(3), post)
    assert (gradient[actor.log_std_slice].abs().sum() > 0) == log_std


@pytest.mark.parametrize("inner", sorted(INNER_METHODS))
@pytest.mark.parametrize("name", sorted(OUTER_METHODS))
def test_the_last_step_leaves_its_inputs_alone_and_gives_a_policy_and_a_multiplier_a_task(name, inner):
    actor, outer = make_actor(), OUTER_METHODS[name]()
    theta, multiplier = actor.vector().expand(3, -1).clone(), torch.full((3,), 0.5)
    post = make_task_data(actor, theta)
    adapted, lambdas, weights = outer.last_step(
        actor, outer.adaptation(INNER_METHODS[inner]()), theta, multiplier, post
    )
    assert adapted.shape == theta.shape
    assert lambdas.shape == weights.shape == multiplier.shape
    assert torch.equal(theta, actor.vector().expand(3, -1))
    assert torch.equal(multiplier, torch.full((3,), 0.5))


def test_reptiles_direction_leads_away_from_the_mean_of_the_adapted_policies():
    actor = linear_actor()
    theta = torch.tensor([-0.5, 0.3, 0.1])  # log_std, W, b
    adapted = torch.tensor([[-0.7, 0.5, 0.1], [-0.1, 0.2, 0.4]])
    post = make_task_data(actor, adapted)
    gradient = direction(Reptile(), actor, theta, adapted, torch.tensor([0.0, 2.0]), post)
    # 1/2 ((-0.5 + 0.7) + (-0.5 + 0.1)), 1/2 ((0.3 - 0.5) + (0.3 - 0.2)), 1/2 ((0.1 - 0.1) + (0.1 - 0.4))
    torch.testing.assert_close(gradient, torch.tensor([-0.1, -0.05, -0.15]))
    torch.testing.assert_close(theta - gradient, adapted.mean(dim=0))


def test_meta_srls_gradient_is_that_of_the_divergence_from_the_adapted_policies():
    """KL(N(m, s) || N(mu, sigma)) = log(sigma / s) + (s^2 + (m - mu)^2) / (2 sigma^2) - 1/2."""
    actor = linear_actor()
    theta = torch.tensor([-0.5, 0.3, 0.1])  # log_std, W, b
    adapted = torch.tensor([[-0.7, 0.5, 0.1], [-0.1, 0.2, 0.4]])
    post = make_task_data(actor, adapted)
    gradient = direction(MetaSRL(), actor, theta, adapted, torch.zeros(2), post)
    by_hand = torch.zeros(3)
    for p in range(2):
        s, w, b = adapted[p]
        x, variance = post.features[p, :, 0], (2 * theta[0]).exp()
        apart = (theta[1] * x + theta[2]) - (w * x + b)  # mu - m
        noise = 1 - ((2 * s).exp() + apart**2) / variance
        by_hand += 0.5 * torch.stack([noise, apart * x / variance, apart / variance]).mean(dim=1)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-4, atol=1e-6)
    # it is zero at policies that all tasks share
    same = adapted[:1].expand(2, -1)
    gradient = direction(MetaSRL(), actor, adapted[0], same, torch.zeros(2), make_task_data(actor, same))
    torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-6, rtol=0.0)


def linear_actor() -> GaussianActor:
    """mu(s) = W s + b with D = A = 1, whose score is known by hand."""
    return make_actor(observation_size=1, action_size=1, hidden=())


def test_the_first_order_gradient_equals_a_case_computed_by_hand():
    actor = linear_actor()
    names = [name for name, _ in actor.named_parameters()]
    assert names == ["log_std", "mean.0.weight", "mean.0.bias"]
    adapted = torch.tensor([[-0.5, 0.3, 0.1], [0.2, -0.4, 0.0]])
    post = make_task_data(actor, adapted, samples=15)
    multiplier = torch.tensor([0.5, 2.0])
    gradient = direction(FOMAML(), actor, torch.zeros(3), adapted, multiplier, post)
    # with ratio = 1: grad L_p = -mean A grad log pi, and with z = (a - mu) / sigma, averaged over p,
    # d/dlog_std = z^2 - 1, d/dW = z s / sigma, d/db = z / sigma
    advantage = lagrangian_advantage(post, multiplier)
    by_hand = torch.zeros(3)
    for p in range(2):
        log_std, w, b = adapted[p]
        sigma = log_std.exp()
        s, a = post.features[p, :, 0], post.action[p, :, 0]
        z = (a - (w * s + b)) / sigma
        score = torch.stack([z**2 - 1, z * s / sigma, z / sigma])
        by_hand -= 0.5 * (score * advantage[p]).mean(dim=1)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-4, atol=1e-6)


def test_the_lagrangian_advantage_weighs_reward_and_cost():
    actor = make_actor()
    data = make_task_data(actor, actor.vector().expand(2, -1))
    standard = lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0)  # noqa: E731
    expected = (standard(data.reward_advantage) - 3.0 * standard(data.cost_advantage)) / 4.0
    torch.testing.assert_close(lagrangian_advantage(data, torch.tensor([3.0, 3.0])), expected)


def test_descending_the_safety_term_lowers_the_probability_of_costly_actions():
    actor = make_actor()
    theta = actor.vector()
    pre = make_task_data(actor, theta.expand(2, -1), samples=300)
    direction = safety_gradient(actor, theta, pre, include_log_std=False)
    moved = (theta - 1e-3 * direction).expand(2, -1)
    loc, scale = actor.stacked(moved, pre.features)
    log_prob = torch.distributions.Normal(loc, scale).log_prob(pre.action).sum(-1)
    change = log_prob - pre.log_prob
    costly = pre.cost_advantage > 0.5
    assert change[costly].mean() < 0 < change[pre.cost_advantage < -0.5].mean()


@pytest.mark.parametrize("include", [True, False])
def test_the_safety_term_moves_the_noise_only_when_asked(include):
    actor = make_actor()
    pre = make_task_data(actor, actor.vector().expand(2, -1))
    direction = safety_gradient(actor, actor.vector(), pre, include_log_std=include)
    assert (direction[actor.log_std_slice].abs().sum() > 0) == include


def test_a_value_that_depends_on_the_state_alone_would_be_no_safety_term():
    """Why the code takes A_C where the paper prints V_C(s): over the actions, the score times V(s) averages to zero."""
    actor = linear_actor()
    theta = actor.vector()
    pre = make_task_data(actor, theta.expand(1, -1), samples=200_000)
    value = pre.features[..., 0]  # any function of s
    printed = safety_gradient(actor, theta, type(pre)(**{**vars(pre), "cost_advantage": value}), include_log_std=True)
    meant = safety_gradient(
        actor, theta, type(pre)(**{**vars(pre), "cost_advantage": pre.action[..., 0]}), include_log_std=True
    )
    assert printed.norm() < 0.02 * meant.norm()


def test_the_weight_of_the_safety_term():
    eta = torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(safety_weight(eta, "ratio"), torch.tensor([0.0, 0.5, 0.75]))
    torch.testing.assert_close(safety_weight(eta, "raw"), eta)


@pytest.mark.parametrize("name", ["fomaml", "reptile"])
def test_the_cost_of_the_adapted_policies_moves_lambda_and_the_weight_of_cost_in_the_outer_loss(name):
    """With one adaptation step, lambda would otherwise have seen the meta-policy's cost alone."""
    actor, outer = make_actor(), OUTER_METHODS[name]()
    theta, multiplier = actor.vector().expand(3, -1), torch.full((3,), 0.5)
    inner = make_method("trpo_lag", multiplier_lr=0.01, multiplier_kp=0.1)
    for cost, earned, weight in ((15.0, 0.6, 1.6), (5.0, 0.5, 0.5), (0.0, 0.45, 0.0)):
        post = make_task_data(actor, theta, episode_cost=cost, cost_limit=5.0)
        _, lambdas, weights = outer.last_step(actor, inner, theta, multiplier, post)
        torch.testing.assert_close(lambdas, torch.full((3,), earned))
        torch.testing.assert_close(weights, torch.full((3,), weight))


@pytest.mark.parametrize("name", ["cpo", "pcpo"])
def test_methods_that_find_their_multiplier_anew_find_it_on_the_adapted_policies_data(name):
    actor, inner = make_actor(), make_method(name)
    theta = actor.vector().expand(3, -1).clone()
    over = make_task_data(actor, theta, samples=200, episode_cost=5.2, cost_limit=5.0)
    free = make_task_data(actor, theta, samples=200, episode_cost=0.0, cost_limit=1000.0)
    _, _, bound = FOMAML().last_step(actor, inner, theta, torch.zeros(3), over)
    _, _, slack = FOMAML().last_step(actor, inner, theta, torch.full((3,), 7.0), free)
    assert (bound > 0).any()
    assert torch.equal(slack, torch.zeros(3))
    torch.testing.assert_close(bound, inner.step(actor, theta, torch.zeros(3), over).multiplier)
