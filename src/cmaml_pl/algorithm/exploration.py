"""Exploration by the context: every world of a task plays with a context of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.envs.base import hidden_values
from cmaml_pl.math.advantages import first_episode_sums, standardise, weigh
from cmaml_pl.rollout.task_data import common_scale
from cmaml_pl.task import Task


@dataclass(frozen=True)
class Exploration:
    """Offsets of the context, one for each world of a rollout, and the step of the context that is learned from them.

    Noise in single actions averages out: the robot shakes and goes the same way. A world with another context tries
    another way, and keeps to it (Gupta, Mendonca, Liu, Abbeel & Levine 2018, "Meta-reinforcement learning of structured
    exploration strategies").

    That a context means a way has to be learned. It is learned sooner if some tasks of a meta-batch are *informed*:
    their context tells what is hidden of them (Kamienny et al. 2020, "Learning adaptive exploration strategies in
    dynamic environments through informed policy regularization"). Nothing is told in validation and in the meta-test.

    Attributes:
        std: standard deviation of the offsets before adaptation.
        decay: factor on `std` with each adaptation step.
        temperature: of the shares that worlds have in the step of the context, in standard deviations of what they are
            worth, see `context_step`.
        size: C, length of the context.
        informed: share of the rows of a meta-batch that are informed, the first ones.
        names: what is hidden of a task; the first entries of the context tell it.
        mean: of these numbers over the training tasks, float64, (names,).
        spread: their standard deviations over the training tasks, float64, (names,).
    """

    std: float
    decay: float
    temperature: float
    size: int
    informed: float
    names: Sequence[str]
    mean: Tensor
    spread: Tensor

    @classmethod
    def of(
        cls,
        tasks: Sequence[Task],
        names: Sequence[str],
        *,
        std: float,
        decay: float,
        temperature: float,
        size: int,
        informed: float,
    ) -> Self:
        """An Exploration whose `mean` and `spread` are those of `tasks`, the training tasks."""
        values = hidden_values(tasks, names)
        mean = values.mean(dim=0)
        spread = (values - mean).square().mean(dim=0).sqrt()
        # what is the same in all tasks tells nothing
        return cls(std, decay, temperature, size, informed, names, mean, spread.where(spread > 0, 1.0))

    def is_informed(self, rows: slice, batch: int) -> Tensor:
        """Whether tasks are informed, bool, (rows,): those of some rows of a batch with `batch` rows."""
        return torch.arange(batch)[rows] < count_informed(self.informed, batch)

    def told(self, tasks: Sequence[Task]) -> Tensor:
        """What is hidden of tasks, in standard deviations from the mean training task, and zeros, (tasks, C)."""
        values = (hidden_values(tasks, self.names) - self.mean) / self.spread
        return torch.cat([values.float(), torch.zeros(len(tasks), self.size - len(self.names))], dim=1)

    @property
    def hint_size(self) -> int:
        """How many numbers the reward critic is told of a task, see `AdvantageEstimator.told`."""
        return len(self.names) + 1 if self.informed > 0 else 0

    def context_step(self, rollout: TensorDictBase, weight: Tensor, *, discount: float, ranks: Ranks = ALONE) -> Tensor:
        """The step of each task's context, (tasks, C); 0 for a task whose worlds have all the same offset.

        The worlds that did better pull it more:

            sum_w share_w (offset_w - mean offset),    share_w ~ exp(G_w / temperature),
            G_w = (R_w - weight C_w) / (1 + weight).

        With many worlds this is the mean of the distribution of contexts with the largest E[G] - temperature KL from
        the one that they were drawn from (Peters, Mülling & Altun 2010, "Relative entropy policy search"). With few,
        and at a low temperature, it is nearly the best world's context, and never beyond those that were tried. At a
        high temperature it is the natural gradient of E[G] in the mean context, divided by the temperature.

        R_w and C_w are return and cost of the first episode of world w. Their unit is the larger of the task's standard
        deviation and that of all tasks: the more alike a task's worlds do, the less its noise moves.

        Args:
            rollout: TensorDict [tasks, envs, time] with the offsets as "offset".
            weight: of the cost against the reward, (tasks,).
            discount: of the cost that the limits are on.
            ranks: the processes that have the other tasks.
        """
        after, offsets = rollout["next"], rollout["offset"][:, :, 0]
        gain, cost = (
            standardise(sums, common_scale(sums, ranks))
            for sums in (
                first_episode_sums(after["reward"], after["done"]),
                first_episode_sums(after["cost"], after["done"], discount=discount),
            )
        )
        share = (weigh(gain, cost, weight) / self.temperature).softmax(dim=1)
        centred = offsets - offsets.mean(dim=1, keepdim=True)
        step: Tensor = (share[..., None] * centred).sum(dim=1)
        return step


def count_informed(share: float, batch: int) -> int:
    """How many of a batch of tasks are informed: the share, rounded down."""
    return int(share * batch + 1e-9)
