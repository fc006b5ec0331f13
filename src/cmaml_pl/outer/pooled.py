"""Pretraining on the pooled data of all tasks: a baseline that sees as much data, but does not learn to adapt."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.math.finite import finite_rows
from cmaml_pl.nets.networks import Actor
from cmaml_pl.outer.base import MetaBatch, OuterMethod
from cmaml_pl.rollout.task_data import TaskData, gather, pool, select


@dataclass(frozen=True, kw_only=True)
class PooledSteps(InnerMethod):
    """An inner method that takes one common step for all tasks, on the data of all: one policy and one lambda.

    Attributes:
        inner: the method that takes the step; it is given the pooled data as one single task.
        ranks: the processes that hold tasks; each of them gets the data of all.
    """

    inner: InnerMethod
    ranks: Ranks = ALONE

    shares_policy: ClassVar[bool] = True

    @classmethod
    def of(cls, inner: InnerMethod, ranks: Ranks = ALONE) -> "PooledSteps":
        """Pooled steps of `inner`, with its number of steps and its limit."""
        own = {name: getattr(inner, name) for name in ("method", "steps", "cost_limit", "cost_limit_discount")}
        return cls(**own, inner=inner, ranks=ranks)

    @property
    def multiplier_init(self) -> float:
        """The first lambda of `inner`."""
        return self.inner.multiplier_init

    @property
    def multiplier_carry(self) -> float:
        """1, because there is one long training, in which each meta-iteration continues with the last lambda."""
        return 1.0

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step; the rows of `theta` and of `multiplier` are all equal, before and after the step."""
        tasks, everyone = len(theta), gather(data, self.ranks)
        sound = finite_rows(value for name, value in vars(everyone).items() if name != "cost_limit")
        # this rank may have no task left. If no task is sound, the step is not finite, and it is not taken
        theta, multiplier = self.ranks.gather(theta)[:1], self.ranks.gather(multiplier)[:1]
        pooled = pool(select(everyone, sound) if sound.any() else everyone)
        step = self.inner.step(actor, theta, multiplier, pooled)
        return InnerStep(
            theta=step.theta.expand(tasks, -1).clone(),
            multiplier=step.multiplier.expand(tasks),
            kl=step.kl.expand(tasks),
            step_share=step.step_share.expand(tasks),
            infeasible=step.infeasible.expand(tasks),
        )


@dataclass(frozen=True, kw_only=True)
class Pooled(OuterMethod):
    """Trains the meta-policy itself by the inner method on the pooled data of all tasks, without meta-learning.

    With `trpo_lag` this is plain TRPO-Lagrangian. A meta-iteration takes as many environment steps as one of C-MAML
    with K inner steps: K + 1 rollouts on the tasks of the batch. Each rollout, including the last one, is followed by
    one step. The advantages are the same as for every other method (the critics are corrected for each task), but they
    are standardised over all tasks together. Validation and the meta-test adapt to each task by the inner method, as
    for every other initialisation.
    """

    method: str = "pooled"

    @property
    def max_kl(self) -> None:
        """None: each step of the inner method already has a limit of its own."""
        return

    @property
    def safety_term(self) -> bool:
        """False: the steps of the inner method already respect the cost limit."""
        return False

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Gradient descent with step size 1, so that theta becomes theta': theta - (theta - theta') = theta'."""
        return torch.optim.SGD(parameters, lr=1.0)

    def adaptation(self, inner: InnerMethod, ranks: Ranks = ALONE) -> InnerMethod:
        """`inner`, but with common steps for all tasks, see PooledSteps."""
        return PooledSteps.of(inner, ranks)

    def last_step(
        self, actor: Actor, inner: InnerMethod, theta: Tensor, multiplier: Tensor, post: TaskData
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One more pooled step, on the last rollouts."""
        step = inner.step(actor, theta, multiplier, post)
        return step.theta, step.multiplier, step.multiplier

    def direction(self, actor: Actor, theta: Tensor, batch: MetaBatch) -> Tensor:
        """Theta - theta', 0 on a rank without a task; see OuterMethod.direction."""
        arrived = batch.goals[0].adapted[:1]  # all rows are the same policy theta'
        return self.learned(actor, (theta - arrived).sum(dim=0))
