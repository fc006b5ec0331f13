"""Turns rollouts into the data that the updates need."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.critics.estimation import Transitions, advantages, append, cost_to_go, read_transitions, within_episode
from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.distributed.threads import ONE_THREAD, RowThreads
from cmaml_pl.math.advantages import mean_episode_sum, spread, standardise
from cmaml_pl.nets.networks import Actor, NoValue, ValueNetwork

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Rows = TypeVar("Rows", bound="DataclassInstance")


@dataclass(frozen=True)
class TaskData:
    """A rollout prepared for the updates: envs and time are merged into samples.

    Attributes:
        features: normalised observations, (tasks, samples, D), followed by the offsets of the context, if there were
            some. For an actor that remembers they are whole episodes, see `Actor.stacked`.
        action: actions, (tasks, samples, A).
        log_prob: log-probability of the action under the policy that collected the data, nats, (tasks, samples).
        loc: mean of that policy, (tasks, samples, A).
        scale: standard deviation of that policy, (tasks, samples, A).
        reward_advantage: A_r, (tasks, samples).
        cost_advantage: A_c, (tasks, samples).
        cost_scale: unit of A_c, (tasks,): the larger of its standard deviations in the task and in the whole batch of
            tasks. In a task that hardly costs anything, the critic's noise therefore does not count as a cost.
        episode_steps: mean steps per episode, in the unit of the limit: discounted if that is, (tasks,).
        episode_return: mean undiscounted return per episode, (tasks,).
        episode_cost: J_C, mean cost per episode in the unit of the limit, (tasks,).
        cost_limit: d^p, (tasks,).
    """

    features: Tensor
    action: Tensor
    log_prob: Tensor
    loc: Tensor
    scale: Tensor
    reward_advantage: Tensor
    cost_advantage: Tensor
    cost_scale: Tensor
    episode_steps: Tensor
    episode_return: Tensor
    episode_cost: Tensor
    cost_limit: Tensor

    @property
    def reward_signal(self) -> Tensor:
        """A_r with mean 0 and variance 1 in each task, (tasks, samples), as the surrogates and losses use it."""
        return standardise(self.reward_advantage)

    @property
    def cost_signal(self) -> Tensor:
        """A_c with mean 0 in each task, divided by `cost_scale`, (tasks, samples)."""
        return standardise(self.cost_advantage, self.cost_scale)


def pool(data: TaskData) -> TaskData:
    """All tasks as a single one: all their samples, (1, tasks * samples, ...), and the means of their numbers, (1,)."""

    def merge(value: Tensor) -> Tensor:
        return value.mean(dim=0, keepdim=True) if value.ndim == 1 else value.flatten(0, 1)[None]

    merged = TaskData(**{field.name: merge(getattr(data, field.name)) for field in dataclasses.fields(data)})
    return dataclasses.replace(merged, cost_scale=spread(merged.cost_advantage)[:, 0])


def select(record: Rows, rows: Tensor | slice) -> Rows:
    """The tasks of some rows, a slice or a mask, bool, (tasks,), of a record whose fields have a row for each task."""
    return dataclasses.replace(record, **{name: value[rows] for name, value in vars(record).items()})


def gather(data: TaskData, ranks: Ranks) -> TaskData:
    """The data of the tasks of all ranks."""
    return TaskData(**{name: ranks.gather(rows) for name, rows in vars(data).items()})


def common_scale(advantage: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """The larger of a task's own standard deviation and that of all tasks of all ranks, (tasks, samples) -> (tasks,).

    The latter is the square root of the tasks' mean variance. Tasks that are not finite are left out of the mean.
    """
    own = spread(advantage)[:, 0]
    finite = own.isfinite()
    total, count = own.where(finite, torch.zeros_like(own)).square().sum(), finite.sum().to(own)
    ranks.sum_([total, count])
    return torch.maximum(own, (total / count.clamp_min(1.0)).sqrt())


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
        horizon: steps of an episode.
        limit_discount: discount of the cost that the limits are on, see InnerMethod.
        safety_by_critic: whether A_C of the safety term is that of the safety critic.
        told: how many numbers V_r is told of informed tasks, see Exploration: what is hidden, which are the first of
            their offsets, and a 1. Of other tasks these numbers are 0. 0 if no task is ever informed.
    """

    actor: Actor
    reward_critic: ValueNetwork | NoValue
    safety_critic: ValueNetwork
    gamma: float
    cost_gamma: float
    lmbda: float
    ridge: float
    horizon: int
    limit_discount: float = 1.0
    safety_by_critic: bool = True
    told: int = 0

    def transitions(self, rollout: TensorDictBase) -> Transitions:
        """The states of a rollout [tasks, envs, time], normalised as for the actor."""
        return read_transitions(self.actor.normaliser, rollout)

    def reward_transitions(self, rollout: TensorDictBase) -> Transitions:
        """The same as V_r sees them, see `told`."""
        return self._tell(self.transitions(rollout), rollout)

    def _tell(self, states: Transitions, rollout: TensorDictBase) -> Transitions:
        if not self.told:
            return states
        if "informed" in rollout.keys():
            hidden = rollout["offset"][..., : self.told - 1]
            told = torch.cat([hidden, torch.ones_like(hidden[..., :1])], dim=-1).where(rollout["informed"], 0.0)
        else:
            told = states.features.new_zeros(*rollout.shape, self.told)
        return append(states, told, told)

    def cost_transitions(self, rollout: TensorDictBase) -> Transitions:
        """The same as V_C sees them, see `within_episode`."""
        return within_episode(self.transitions(rollout), self.horizon)

    def task_data(
        self,
        rollout: TensorDictBase,
        cost_limit: Tensor,
        ranks: Ranks = ALONE,
        threads: RowThreads = ONE_THREAD,
    ) -> TaskData:
        """For the tasks' own updates: both critics with each task's correction.

        Args:
            rollout: TensorDict [tasks, envs, time].
            cost_limit: (tasks,).
            ranks: the processes that have the other tasks of the batch.
            threads: one may take the reward while another one takes the cost.
        """
        states, after = self.transitions(rollout), rollout["next"]
        within, estimate = within_episode(states, self.horizon), partial(advantages, lmbda=self.lmbda, ridge=self.ridge)
        reward_advantage, cost_advantage = threads.each(
            partial(estimate, self.reward_critic, self._tell(states, rollout), after["reward"], gamma=self.gamma),
            partial(estimate, self.safety_critic, within, after["cost"], gamma=self.cost_gamma),
        )
        cost_advantage = cost_advantage.flatten(1)
        features = states.features  # without exploration no copy is made
        if "offset" in rollout.keys():
            features = torch.cat([features, rollout["offset"]], dim=-1)
        if self.actor.state_size:
            features = torch.cat([features, rollout["is_init"].to(features)], dim=-1)
        else:
            features = features.flatten(1, 2)
        return TaskData(
            features=features,
            action=rollout["action"].flatten(1, 2),
            log_prob=rollout["action_log_prob"].flatten(1, 2),
            loc=rollout["loc"].flatten(1, 2),
            scale=rollout["scale"].flatten(1, 2),
            reward_advantage=reward_advantage.flatten(1),
            cost_advantage=cost_advantage,
            cost_scale=common_scale(cost_advantage, ranks),
            episode_steps=mean_episode_sum(
                torch.ones_like(after["reward"]), after["done"], discount=self.limit_discount
            ),
            episode_return=mean_episode_sum(after["reward"], after["done"]),
            episode_cost=mean_episode_sum(after["cost"], after["done"], discount=self.limit_discount),
            cost_limit=cost_limit,
        )

    def safety_data(self, data: TaskData, rollout: TensorDictBase, ranks: Ranks = ALONE) -> TaskData:
        """The data of a rollout with the A_C of `safety_advantage`."""
        advantage = self.safety_advantage(rollout)
        return dataclasses.replace(data, cost_advantage=advantage, cost_scale=common_scale(advantage, ranks))

    def safety_advantage(self, rollout: TensorDictBase) -> Tensor:
        """A_C under the global safety critic alone, (tasks, samples); or without it the costs that follow (REINFORCE).

        The latter are used less their mean in the task, which is the baseline that remains; see `cost_signal`.
        """
        states, cost = self.cost_transitions(rollout), rollout["next", "cost"]
        if not self.safety_by_critic:
            return cost_to_go(states, cost, gamma=self.cost_gamma).flatten(1)
        return advantages(
            self.safety_critic, states, cost, gamma=self.cost_gamma, lmbda=self.lmbda, ridge=None
        ).flatten(1)
