"""Pretraining over the pooled tasks: the baseline that learns as much, but not to adapt."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.inner.base import InnerMethod, InnerStep
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.outer.base import OuterMethod
from cmaml_pl.rollout.task_data import TaskData, gather, pool


@dataclass(frozen=True, kw_only=True)
class PooledSteps(InnerMethod):
    """An inner method whose steps are taken by all tasks together, on the data of all: one policy and one lambda.

    Attributes:
        inner: takes the step, in a batch of one "task".
        ranks: hold the tasks; each is sent the data of all.
    """

    inner: InnerMethod
    ranks: Ranks = ALONE

    @classmethod
    def of(cls, inner: InnerMethod, ranks: Ranks = ALONE) -> "PooledSteps":
        """With as many steps and the limit of `inner`."""
        return cls(method=inner.method, steps=inner.steps, cost_limit=inner.cost_limit, inner=inner, ranks=ranks)

    @property
    def multiplier_init(self) -> float:
        """Of the inner method."""
        return self.inner.multiplier_init

    @property
    def multiplier_carry(self) -> float:
        """1: there is one long training, in which lambda goes on."""
        return 1.0

    def step(self, actor: GaussianActor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step; the rows of `theta` and of `multiplier` are alike before it and after it."""
        tasks = len(theta)
        step = self.inner.step(actor, theta[:1], multiplier[:1], pool(gather(data, self.ranks)))
        return InnerStep(
            theta=step.theta.expand(tasks, -1).clone(),
            multiplier=step.multiplier.expand(tasks),
            kl=step.kl.expand(tasks),
            step_share=step.step_share.expand(tasks),
            infeasible=step.infeasible.expand(tasks),
        )


@dataclass(frozen=True, kw_only=True)
class Pooled(OuterMethod):
    """Train the meta-policy itself by the inner method on the tasks' pooled data; with `trpo_lag`, TRPO-Lagrangian.

    A meta-iteration costs the same environment steps as one of C-MAML with K inner steps: K + 1 rollouts on the tasks
    of the batch, and after each of them, the last included, one step. The advantages are those that every other method
    is given, their critics corrected for each task, but standardised over all tasks together. Validation and the
    meta-test adapt by the inner method to each task, as they do for every other initialisation.
    """

    method: str = "pooled"

    @property
    def max_kl(self) -> None:
        """Every step has its own."""
        return

    @property
    def safety_term(self) -> bool:
        """No: the steps keep to the limit of themselves."""
        return False

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Gradient descent with step size 1: theta - (theta - theta') = theta'."""
        return torch.optim.SGD(parameters, lr=1.0)

    def adaptation(self, inner: InnerMethod, ranks: Ranks = ALONE) -> InnerMethod:
        """Steps of all tasks together."""
        return PooledSteps.of(inner, ranks)

    def last_step(
        self, actor: GaussianActor, inner: InnerMethod, theta: Tensor, multiplier: Tensor, post: TaskData
    ) -> tuple[Tensor, Tensor]:
        """One more of the same."""
        step = inner.step(actor, theta, multiplier, post)
        return step.theta, step.multiplier

    def _gradient(
        self, actor: GaussianActor, theta: Tensor, adapted: Tensor, multiplier: Tensor, post: TaskData
    ) -> Tensor:
        return theta - adapted[0]  # theta' is the policy that all tasks arrived at
