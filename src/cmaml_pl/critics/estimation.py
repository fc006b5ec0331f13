"""Advantages of a rollout under the critics, and the targets that the critics are fitted to."""

from dataclasses import dataclass, replace

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.math.advantages import gae, steps_so_far
from cmaml_pl.math.regression import ridge_regression, value_features
from cmaml_pl.nets.networks import NoValue, ObservationNormaliser, ValueNetwork


@dataclass(frozen=True)
class Transitions:
    """The states of a rollout as the critics see them.

    Attributes:
        features: normalised observations of s_t, (tasks, envs, time, D).
        next_features: normalised observations of s_{t+1}, before any reset, same shape.
        done: whether the step ended its episode, bool, (tasks, envs, time, 1).
        terminated: whether it ended the episode for good, not by the time limit, bool, same shape.
    """

    features: Tensor
    next_features: Tensor
    done: Tensor
    terminated: Tensor


def read_transitions(normaliser: ObservationNormaliser, rollout: TensorDictBase) -> Transitions:
    """The transitions of a rollout [tasks, envs, time]."""
    after = rollout["next"]
    return Transitions(
        normaliser(rollout["observation"]), normaliser(after["observation"]), after["done"], after["terminated"]
    )


def append(states: Transitions, numbers: Tensor, next_numbers: Tensor) -> Transitions:
    """The transitions of a critic that sees more than the policy: numbers of s_t and of s_{t+1}, (..., N) each."""
    return replace(
        states,
        features=torch.cat([states.features, numbers], dim=-1),
        next_features=torch.cat([states.next_features, next_numbers], dim=-1),
    )


def within_episode(states: Transitions, horizon: int) -> Transitions:
    """The transitions as the safety critic V_C sees them: they end with the episode, and tell how much of it is left.

    The cost limit is on the cost of an episode, so costs after its time limit do not count. The value of a state
    therefore depends on the time that is left, which is appended to the features as a share of the horizon. The policy
    does not get it.

    Args:
        states: the transitions of a rollout.
        horizon: steps of an episode.
    """
    left = 1.0 - steps_so_far(states.done).to(states.features) / horizon
    return replace(append(states, left, left - 1.0 / horizon), terminated=states.done)


@torch.no_grad()
def advantages(
    critic: ValueNetwork | NoValue,
    states: Transitions,
    signal: Tensor,
    *,
    gamma: float,
    lmbda: float,
    ridge: float | None,
) -> Tensor:
    """GAE of a reward or cost under `critic`, (tasks, envs, time, 1).

    Args:
        critic: the critic that all tasks share.
        states: the states of the rollout.
        signal: reward or cost of each step, (tasks, envs, time, 1).
        gamma: discount.
        lmbda: lambda of GAE.
        ridge: None uses the critic as it is. With a number (the penalty of a ridge regression), the critic is first
            corrected for each task by a linear function of `value_features`, fitted to the difference between the
            task's own returns and the critic. Few data suffice for this, and differences of reward between tasks, which
            a shared critic averages out, are not lost. At a time limit these returns are continued by the shared critic
            alone. If the linear function appeared on both sides of the regression, it would learn to cancel every
            reward that is a difference of potentials, such as progress, and with it the advantage.
    """
    value, next_value = critic(states.features), critic(states.next_features)
    ends = (states.done, states.terminated)
    if ridge is not None:
        remainder = gae(signal, value, next_value, *ends, gamma=gamma, lmbda=1.0)
        phi, next_phi = value_features(states.features), value_features(states.next_features)
        weights = ridge_regression(phi.flatten(1, 2), remainder.flatten(1, 2), ridge=ridge)[:, None]
        value, next_value = value + phi @ weights, next_value + next_phi @ weights
    return gae(signal, value, next_value, *ends, gamma=gamma, lmbda=lmbda)


@torch.no_grad()
def reward_to_go(critic: ValueNetwork, states: Transitions, reward: Tensor, *, gamma: float) -> Tensor:
    """Discounted sum of rewards, (tasks, envs, time, 1); beyond a time limit `critic` estimates the rest of the sum."""
    value, next_value = critic(states.features), critic(states.next_features)
    beyond = gae(reward, value, next_value, states.done, states.terminated, gamma=gamma, lmbda=1.0)
    result: Tensor = beyond + value
    return result


@torch.no_grad()
def cost_to_go(states: Transitions, cost: Tensor, *, gamma: float) -> Tensor:
    """Discounted sum of the costs left in the episode, (tasks, envs, time, 1).

    `states` must end with the episode, see `within_episode`. With a bootstrap at the time limit, V_C(s_0) would also
    count costs after the end of the episode; on nav2d, whose episodes are short, it would be four times the real cost.
    """
    nothing = torch.zeros_like(cost)
    return gae(cost, nothing, nothing, states.done, states.terminated, gamma=gamma, lmbda=1.0)
