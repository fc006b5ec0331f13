"""Exploration by the context: every episode of a rollout is played with a context of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.envs.base import hidden_values
from cmaml_pl.math.advantages import first_episode_sums, standardise
from cmaml_pl.rollout.task_data import common_scale
from cmaml_pl.task import Task


@dataclass(frozen=True)
class Exploration:
    """Offsets of the context, one for each world of a rollout, and the step of the context that is learned from them.

    Noise in single actions averages out: the robot shakes and goes the same way. With another context in each episode
    it tries another way, and keeps to it (Gupta, Mendonca, Liu, Abbeel & Levine 2018, "Meta-reinforcement learning of
    structured exploration strategies").

    That a context means a way has to be learned. It is learned sooner if some tasks of a meta-batch are *informed*:
    their context tells what is hidden of them (Kamienny et al. 2020, "Learning adaptive exploration strategies in
    dynamic environments through informed policy regularization"). Nothing is told in validation and in the meta-test.

    Attributes:
        std: standard deviation of the offsets before adaptation.
        decay: factor on `std` with each adaptation step.
        lr: step size of the context, see `context_step`.
        size: C, length of the context.
        informed: share of the tasks of a meta-batch that are informed, the first ones.
        names: what is hidden of a task; the first entries of the context tell it.
        mean: of these numbers over the training tasks, float64, (names,).
        spread: their standard deviations over the training tasks, float64, (names,).
    """

    std: float
    decay: float
    lr: float
    size: int
    informed: float
    names: Sequence[str]
    mean: Tensor
    spread: Tensor

    def known(self, tasks: Sequence[Task], rows: slice, batch: int) -> Tensor:
        """What the informed tasks of a batch are told, in standard deviations from the mean task; NaN for the others.

        Args:
            tasks: those of some rows of the batch.
            rows: these rows.
            batch: number of rows of the batch.

        Returns:
            The same offset for all worlds of a task, (tasks, C).
        """
        informed = torch.arange(batch)[rows] < round(self.informed * batch)
        values = (hidden_values(tasks, self.names) - self.mean) / self.spread
        told = torch.cat([values.float(), torch.zeros(len(tasks), self.size - len(self.names))], dim=1)
        return told.where(informed[:, None], torch.nan)

    def offsets(self, noise: Tensor, known: Tensor | None, step: int) -> Tensor:
        """What is added to the context in each world, (tasks, envs, C).

        Args:
            noise: standard normal numbers, (tasks, envs, C).
            known: see the method; None if no task is informed.
            step: number of adaptation steps so far.
        """
        drawn = self.std * self.decay**step * noise
        return drawn if known is None else known[:, None].where(known[:, None].isfinite(), drawn)

    def context_step(
        self, rollout: TensorDictBase, multiplier: Tensor, *, discount: float, ranks: Ranks = ALONE
    ) -> Tensor:
        """The step of each task's context, (tasks, C); 0 for a task whose worlds have all the same offset.

        It follows the natural gradient of E[G] in the mean of the normal distribution that contexts are drawn from:

            lr Cov_w(offset_w, G_w),    G_w = (R_w - lambda C_w) / (1 + lambda),

        where R_w and C_w are the standardised return and cost of world w.

        Args:
            rollout: TensorDict [tasks, envs, time] with the offsets as "offset".
            multiplier: lambda^p, (tasks,).
            discount: of the cost that the limits are on.
            ranks: the processes that have the other tasks.
        """
        after, weight, offsets = rollout["next"], multiplier[:, None], rollout["offset"][:, :, 0]
        gain, cost = (
            standardise(sums, common_scale(sums, ranks))
            for sums in (
                first_episode_sums(after["reward"], after["done"]),
                first_episode_sums(after["cost"], after["done"], discount=discount),
            )
        )
        worth = (gain - weight * cost) / (1.0 + weight)
        centred = offsets - offsets.mean(dim=1, keepdim=True)
        step: Tensor = self.lr * (centred * worth[..., None]).mean(dim=1)
        return step
