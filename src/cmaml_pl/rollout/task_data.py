"""Turns rollouts into the data that the updates need."""

import dataclasses
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.critics.estimation import Transitions, advantages, read_transitions
from cmaml_pl.distributed.ranks import Ranks
from cmaml_pl.math.advantages import mean_episode_sum
from cmaml_pl.nets.networks import GaussianActor, NoValue, ValueNetwork


@dataclass(frozen=True)
class TaskData:
    """A rollout prepared for the updates: envs and time are merged into samples.

    Attributes:
        features: normalised observations, (tasks, samples, D).
        action: actions, (tasks, samples, A).
        log_prob: log-probability of the action under the policy that collected the data, nats, (tasks, samples).
        loc: mean of that policy, (tasks, samples, A).
        scale: standard deviation of that policy, (tasks, samples, A).
        reward_advantage: A_r, (tasks, samples).
        cost_advantage: A_c, (tasks, samples).
        episode_steps: mean steps per episode, (tasks,).
        episode_return: mean undiscounted return per episode, (tasks,).
        episode_cost: J_C, mean undiscounted cost per episode, (tasks,).
        cost_limit: d^p, same unit, (tasks,).
    """

    features: Tensor
    action: Tensor
    log_prob: Tensor
    loc: Tensor
    scale: Tensor
    reward_advantage: Tensor
    cost_advantage: Tensor
    episode_steps: Tensor
    episode_return: Tensor
    episode_cost: Tensor
    cost_limit: Tensor


def pool(data: TaskData) -> TaskData:
    """All tasks as a single one: all their samples, (1, tasks * samples, ...), and the means of their numbers, (1,)."""

    def merge(value: Tensor) -> Tensor:
        return value.mean(dim=0, keepdim=True) if value.ndim == 1 else value.flatten(0, 1)[None]

    return TaskData(**{field.name: merge(getattr(data, field.name)) for field in dataclasses.fields(data)})


def gather(data: TaskData, ranks: Ranks) -> TaskData:
    """The data of the tasks of all ranks."""
    return TaskData(**{name: ranks.gather(rows) for name, rows in vars(data).items()})


@dataclass(frozen=True)
class AdvantageEstimator:
    """Estimates the advantages of a rollout with the critics that all tasks share.

    Attributes:
        actor: the policy; its normaliser prepares the observations.
        reward_critic: V_r, shared by the tasks; NoValue if each task fits its own critic only.
        safety_critic: V_C, the global safety critic.
        gamma: discount of the reward.
        cost_gamma: discount of the cost.
        lmbda: lambda of GAE, for reward and cost.
        ridge: penalty of the critics' correction for each task, see `advantages`.
    """

    actor: GaussianActor
    reward_critic: ValueNetwork | NoValue
    safety_critic: ValueNetwork
    gamma: float
    cost_gamma: float
    lmbda: float
    ridge: float

    def transitions(self, rollout: TensorDictBase) -> Transitions:
        """The states of a rollout [tasks, envs, time], normalised as for the actor."""
        return read_transitions(self.actor.normaliser, rollout)

    def task_data(self, rollout: TensorDictBase, cost_limit: Tensor) -> TaskData:
        """The data of the tasks' own updates, with both critics corrected for each task; `cost_limit` is (tasks,)."""
        states, after = self.transitions(rollout), rollout["next"]
        reward_advantage = advantages(
            self.reward_critic, states, after["reward"], gamma=self.gamma, lmbda=self.lmbda, ridge=self.ridge
        )
        cost_advantage = advantages(
            self.safety_critic, states, after["cost"], gamma=self.cost_gamma, lmbda=self.lmbda, ridge=self.ridge
        )
        return TaskData(
            features=states.features.flatten(1, 2),
            action=rollout["action"].flatten(1, 2),
            log_prob=rollout["action_log_prob"].flatten(1, 2),
            loc=rollout["loc"].flatten(1, 2),
            scale=rollout["scale"].flatten(1, 2),
            reward_advantage=reward_advantage.flatten(1),
            cost_advantage=cost_advantage.flatten(1),
            episode_steps=mean_episode_sum(torch.ones_like(after["reward"]), after["done"]),
            episode_return=mean_episode_sum(after["reward"], after["done"]),
            episode_cost=mean_episode_sum(after["cost"], after["done"]),
            cost_limit=cost_limit,
        )

    def safety_advantage(self, rollout: TensorDictBase) -> Tensor:
        """A_C under the global safety critic without a correction for each task, (tasks, samples)."""
        states, cost = self.transitions(rollout), rollout["next", "cost"]
        return advantages(
            self.safety_critic, states, cost, gamma=self.cost_gamma, lmbda=self.lmbda, ridge=None
        ).flatten(1)
