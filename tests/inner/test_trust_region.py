"""How far a step of the trust region goes, and which parameters it moves."""

from dataclasses import replace

import pytest
import torch
from tests.helpers import make_actor, make_method, make_task_data

from cmaml_pl.configuration.registry import INNER_METHODS
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.inner.trust_region import EDGE, TrustRegion, surrogate


@pytest.mark.parametrize("damping", [0.0, 0.1, 1.0])
def test_a_step_uses_the_divergence_that_it_is_allowed_whatever_the_damping(damping):
    """The damped quadratic model alone stops at 0.7 of it with 0.1, and at a fifth with 1."""
    actor, region = make_actor(observation_size=6, hidden=(16,)), TrustRegion(max_kl=0.03, cg_damping=damping)
    theta = actor.vector().expand(4, -1).clone()
    data = make_task_data(actor, theta, samples=400)
    adapted, kl, share = region.step(actor, theta, data, data.reward_signal)
    assert (share == 1.0).all(), "the line search had to shorten it"
    assert (kl <= 0.03).all()
    assert (kl > 0.95 * EDGE * 0.03).all(), kl
    torch.testing.assert_close(kl, mean_kl(actor, adapted, data))


@pytest.mark.parametrize("name", ["cpo", "pcpo"])
def test_so_do_the_steps_that_the_limit_does_not_shorten(name):
    method, actor = make_method(name, region={"max_kl": 0.03}), make_actor(observation_size=6, hidden=(16,))
    theta = actor.vector().expand(3, -1).clone()
    data = make_task_data(actor, theta, samples=400, episode_cost=0.0, cost_limit=1000.0)
    step = method.step(actor, theta, torch.zeros(3), data)
    assert (step.kl > 0.95 * EDGE * 0.03).all()
    assert (step.kl <= 0.03).all()


@pytest.mark.parametrize("name", sorted(INNER_METHODS))
@pytest.mark.parametrize(("part", "moved"), [("context", {"context"}), ("head", {"mean.2.weight", "mean.2.bias"})])
def test_a_step_moves_the_parameters_that_it_may_and_no_other(name, part, moved):
    actor = make_actor(hidden=(5,), context_size=3)
    theta = actor.vector().expand(2, -1).clone()
    data = make_task_data(actor, theta, samples=100, episode_cost=5.5)
    step = make_method(name, region={"parameters": part}).step(actor, theta, torch.zeros(2), data)
    start = 0
    for parameter_name, parameter in actor.named_parameters():
        piece = (step.theta - theta)[:, start : start + parameter.numel()]
        assert (piece != 0).any(dim=1).all() == (parameter_name in moved), parameter_name
        assert parameter_name in moved or (piece == 0).all()
        start += parameter.numel()
    assert (step.kl > 0).all()


def exact_region(**fields):
    """A region whose Fisher matrix is that of all states, and whose systems are solved to the end."""
    return TrustRegion(max_kl=0.05, cg_iterations=200, fisher_every=1, **fields)


@pytest.mark.parametrize("part", ["all", "context", "head"])
@pytest.mark.parametrize("damping", [0.1, 3.0])
def test_a_gradient_is_pulled_back_through_a_step_as_by_differentiating_it(part, damping):
    """Against the whole Jacobian, by differentiation of dense matrices, with the Fisher matrix held constant."""
    actor, region = make_actor(hidden=(4,), context_size=2), exact_region(parameters=part, cg_damping=damping)
    actor, theta = actor.double(), actor.double().vector()
    data = make_task_data(actor, theta[None], samples=60)
    data = replace(data, **{name: value.double() for name, value in vars(data).items()})
    advantage, mask = data.reward_signal, actor.mask(part)
    free = torch.ones_like(theta) if mask is None else mask.double()
    fisher = torch.autograd.functional.hessian(lambda x: mean_kl(actor, x[None], data).sum(), theta)
    fisher = free[:, None] * fisher * free
    damped = fisher + damping * torch.eye(len(theta), dtype=torch.float64)

    def end(x):
        slope = torch.func.grad(lambda y: surrogate(actor, y[None], data, advantage).sum())(x)
        direction = torch.linalg.solve(damped, free * slope)
        return x + (2 * region.max_kl / (direction @ fisher @ direction)).sqrt() * direction

    gradient = torch.randn(len(theta), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pulled = region.pull_back(actor, theta[None], data, advantage, (end(theta) - theta)[None])(gradient[None])
    expected = torch.func.jacrev(end)(theta).T @ gradient
    torch.testing.assert_close(pulled[0], expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(expected, gradient, rtol=0.1), "the step hardly depends on theta"


def test_nothing_is_pulled_back_through_a_step_that_was_not_taken():
    actor, region = make_actor(), TrustRegion()
    theta = actor.vector().expand(2, -1).clone()
    data, gradient = make_task_data(actor, theta), torch.ones_like(theta)
    pulled = region.pull_back(actor, theta, data, data.reward_signal, torch.zeros_like(theta))(gradient)
    assert torch.equal(pulled, gradient)
