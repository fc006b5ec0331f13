"""First-order MAML with TRPO as the meta-optimiser."""

import torch
from tests.helpers import make_actor, make_task_data

from cmaml_pl.inner.base import mean_kl
from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.fomaml_trpo import FOMAMLTRPO

TASKS, MAX_KL = 3, 0.01


def batch_of(actor, *, goals=1):
    theta = actor.vector()
    pre = make_task_data(actor, theta.expand(TASKS, -1), samples=300, seed=2)
    adapted = [theta + 0.1 * (k + 1) * torch.ones(TASKS, len(theta)) for k in range(goals)]
    weight = torch.tensor([0.0, 0.5, 2.0])
    return theta, MetaBatch(theta, pre, [MetaGoal(x, weight, make_task_data(actor, x, samples=300)) for x in adapted])


def test_its_gradient_is_that_of_first_order_maml_with_one_goal_or_several():
    actor = make_actor(hidden=(8,))
    for goals in (1, 3):
        theta, batch = batch_of(actor, goals=goals)
        torch.testing.assert_close(FOMAMLTRPO().direction(actor, theta, batch), FOMAML().direction(actor, theta, batch))


def test_its_step_is_the_natural_gradient_by_a_dense_solution_as_long_as_the_trust_region_allows():
    actor = make_actor(observation_size=2, action_size=1, hidden=())  # theta is log_std, W (2), b
    theta, batch = batch_of(actor)
    outer = FOMAMLTRPO(max_kl=MAX_KL, cg_iterations=50, cg_damping=0.1)
    gradient = torch.randn(len(theta), generator=torch.Generator().manual_seed(0))
    step = outer.precondition(actor, theta, gradient, batch)
    # F = E[score score'] of a linear Gaussian: 2 for log_std, [s, 1][s, 1]' / sigma^2 for W and b
    states = batch.pre.features.flatten(0, 1)[:: outer.region.fisher_every]
    inputs = torch.cat([states, torch.ones(len(states), 1)], dim=1)
    fisher = torch.zeros(4, 4)
    fisher[0, 0] = 2.0
    fisher[1:, 1:] = inputs.T @ inputs / len(inputs) / (2 * theta[0]).exp()
    expected = torch.linalg.solve(fisher + 0.1 * torch.eye(4), gradient)
    torch.testing.assert_close(step / step.norm(), expected / expected.norm(), rtol=1e-3, atol=1e-4)
    kl = mean_kl(actor, (theta - step).expand(TASKS, -1), batch.pre).mean()
    assert 0.9 * MAX_KL < kl <= MAX_KL


def test_a_noise_that_is_not_learned_does_not_move_though_the_safety_term_wants_it_to():
    actor = make_actor(hidden=(8,))
    theta, batch = batch_of(actor)
    outer = FOMAMLTRPO(log_std=False, max_kl=MAX_KL)
    gradient = outer.direction(actor, theta, batch)
    gradient[actor.log_std_slice] = 1.0
    step = outer.precondition(actor, theta, gradient, batch)
    kl = mean_kl(actor, (theta - step).expand(TASKS, -1), batch.pre).mean()
    assert 0.9 * MAX_KL < kl <= MAX_KL
    assert (step[actor.log_std_slice] == 0).all()
    assert step.norm() > 0
