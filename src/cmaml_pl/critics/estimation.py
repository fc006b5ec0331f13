"""What the critics say of a rollout, and what they are to say of it."""

from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.math.advantages import gae
from cmaml_pl.math.regression import ridge_regression, value_features
from cmaml_pl.nets.networks import NoValue, ObservationNormaliser, ValueNetwork


@dataclass(frozen=True)
class Transitions:
    """The states of a rollout as the critics see them.

    Attributes:
        features: normalised observations s_t, (tasks, envs, time, D).
        next_features: of s_{t+1}, before any reset, same shape.
        done: whether the step ended its episode, bool, (tasks, envs, time, 1).
        terminated: whether it did so for good, bool, same shape.
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
        critic: shared by all tasks.
        states: of the rollout.
        signal: reward or cost of each step, (tasks, envs, time, 1).
        gamma: discount.
        lmbda: of GAE.
        ridge: None takes the critic as it is. A number first adds to it, for each task, the linear function of
            `value_features` that explains what the critic leaves of the task's own returns, so that few data suffice
            and a critic shared by tasks of different reward does not blur them. At a time limit those returns go on
            with the shared critic alone: were the linear function fitted on both sides of the equation, it would learn
            to undo any reward that is a difference of potentials, such as progress, and with it the advantage.
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
    """Discounted sum of rewards, (tasks, envs, time, 1); beyond a time limit `critic` goes on."""
    value, next_value = critic(states.features), critic(states.next_features)
    beyond = gae(reward, value, next_value, states.done, states.terminated, gamma=gamma, lmbda=1.0)
    result: Tensor = beyond + value
    return result


@torch.no_grad()
def cost_to_go(states: Transitions, cost: Tensor, *, gamma: float) -> Tensor:
    """Discounted sum of the costs left in the episode, (tasks, envs, time, 1).

    The limit is on the cost of an episode, so nothing is added beyond its time limit: with a bootstrap V_C(s_0) would
    also count costs that come after the end (on nav2d, whose episodes are short, four times the real ones).
    """
    nothing = torch.zeros_like(cost)
    return gae(cost, nothing, nothing, states.done, states.terminated, gamma=gamma, lmbda=1.0)
