"""Small objects that several tests need."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.configuration.registry import INNER_METHODS
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.math.advantages import spread
from cmaml_pl.math.gaussian import gaussian_log_prob
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


def make_method(name: str, *, region: Mapping[str, Any] | None = None, **fields: Any) -> InnerMethod:
    """The inner method of that name, with some fields of its trust region, of those that this one has."""
    method: Any = INNER_METHODS[name](**fields)
    known = {key: value for key, value in (region or {}).items() if hasattr(method.trust_region, key)}
    changed: InnerMethod = replace(method, trust_region=replace(method.trust_region, **known))
    return changed


def make_actor(
    observation_size: int = 3,
    action_size: int = 2,
    hidden: tuple[int, ...] = (5,),
    seed: int = 0,
    context_size: int = 0,
) -> GaussianActor:
    return GaussianActor(
        observation_size,
        action_size,
        hidden=hidden,
        init_log_std=-0.5,
        generator=torch.Generator().manual_seed(seed),
        context_size=context_size,
    )


def let_predict(module: CMAML, cost: float, *, steps: int, gamma: float = 0.99) -> None:
    """A safety critic that says the same in every state: that an episode of so many steps costs `cost`.

    Discounted cost V from every state on is a cost of (1 - gamma) V in every step, and gamma V after the last.
    """
    last: Any = module.safety_critic.body[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, cost / (gamma + steps * (1 - gamma)))


def make_task_data(
    actor: GaussianActor,
    theta: torch.Tensor,
    *,
    samples: int = 40,
    episode_cost: float = 10.0,
    cost_limit: float = 5.0,
    seed: int = 1,
) -> TaskData:
    """Actions drawn from `theta` (tasks, P) in random states, with random advantages."""
    generator = torch.Generator().manual_seed(seed)
    tasks, size = len(theta), actor.normaliser.mean.numel()
    features = torch.randn(tasks, samples, size, generator=generator)
    with torch.no_grad():
        loc, scale = actor.stacked(theta, features)
    action = loc + scale * torch.randn(loc.shape, generator=generator)
    return TaskData(
        features=features,
        action=action,
        log_prob=gaussian_log_prob(loc, scale, action),
        loc=loc,
        scale=scale,
        reward_advantage=torch.randn(tasks, samples, generator=generator),
        cost_advantage=(cost_advantage := torch.randn(tasks, samples, generator=generator)),
        cost_scale=spread(cost_advantage)[:, 0],
        episode_steps=torch.full((tasks,), 20.0),
        episode_return=torch.zeros(tasks),
        episode_cost=torch.full((tasks,), episode_cost),
        cost_limit=torch.full((tasks,), cost_limit),
    )
