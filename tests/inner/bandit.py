"""A Gaussian bandit whose return and cost are known in closed form: the smallest problem with an active cost limit."""

import torch
from tests.helpers import make_actor

from cmaml_pl.math.advantages import spread
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.rollout.task_data import TaskData

EPISODE = 10
"""Steps of an episode, in each of which the same bandit is played."""
TARGET = torch.tensor([1.5, 1.0])
"""Mean action of highest return."""
LIMIT = 0.5
"""Of the cost a step, which is the first action: the best allowed mean is [0.5, 1.0]."""


def bandit_actor():
    """mu = W s + bias over two actions; the state is always 0, so that only the bias and log_std matter."""
    return make_actor(observation_size=1, action_size=2, hidden=())


def mean_action(actor, theta):
    """(tasks, 2)."""
    loc, _ = actor.stacked(theta, torch.zeros(len(theta), 1, 1))
    return loc[:, 0].detach()


def play(actor, theta, generator, *, samples=400, limit=LIMIT):
    """Rollouts of `theta` (tasks, P): reward -|a - TARGET|^2 and cost a_0 a step; one state, so A = r - E r."""
    features = torch.zeros(len(theta), samples, 1)
    with torch.no_grad():
        loc, scale = actor.stacked(theta, features)
    action = loc + scale * torch.randn(loc.shape, generator=generator)
    reward, cost = -(action - TARGET).square().sum(dim=-1), action[..., 0]
    return TaskData(
        features=features,
        action=action,
        log_prob=gaussian_log_prob(loc, scale, action),
        loc=loc,
        scale=scale,
        reward_advantage=reward - reward.mean(dim=1, keepdim=True),
        cost_advantage=cost - cost.mean(dim=1, keepdim=True),
        cost_scale=spread(cost)[:, 0],
        episode_steps=torch.full((len(theta),), float(EPISODE)),
        episode_return=EPISODE * reward.mean(dim=1),
        episode_cost=EPISODE * cost.mean(dim=1),
        cost_limit=torch.full((len(theta),), EPISODE * limit),
    )
