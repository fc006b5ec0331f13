"""The interface of outer methods, which move the initialisation after the tasks of a meta-batch have adapted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmaml_pl.bounds import bounded
from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.distributed.threads import ONE_THREAD, RowThreads
from cmaml_pl.inner.base import InnerMethod, InnerStep, PullBack
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.math.natural_gradient import natural_step, rowwise_gradient
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData, gather, pool, select


def first_order(gradient: Tensor) -> Tensor:
    """The PullBack of first-order methods: d theta^p / d theta is taken as the identity."""
    return gradient


def task_gradients(
    loss: Callable[[Tensor, TaskData, slice], Tensor], theta: Tensor, data: TaskData, threads: RowThreads
) -> Tensor:
    """The gradient of each task's loss at its own row of `theta`, (tasks, P).

    Args:
        loss: of some tasks, which are a part of all: their parameters, (part, P), their data, and the part -> (part,).
        theta: (tasks, P).
        data: of all tasks.
        threads: share the tasks.
    """

    def gradient(part: slice) -> Tensor:
        rows = select(data, part)
        return rowwise_gradient(lambda x: loss(x, rows, part), theta[part])[1]

    return torch.cat(threads.map(gradient, len(theta)))


@dataclass(frozen=True)
class MetaGoal:
    """Policies that the meta-update is to improve, one for each task.

    Attributes:
        adapted: theta^p, (tasks, P).
        weight: of the cost in the loss, held fixed, (tasks,).
        post: rollouts of the policies.
        pull_back: through the steps that led to the policies, for a method that `differentiates`.
        steps: those steps, from the meta-parameters on.
    """

    adapted: Tensor
    weight: Tensor
    post: TaskData
    pull_back: PullBack = first_order
    steps: Sequence[InnerStep] = ()


@dataclass(frozen=True)
class MetaBatch:
    """What a meta-update is computed from: the rollouts of this rank's tasks.

    Attributes:
        start: the meta-parameters that every task started from, (P,).
        pre: rollouts of `start`, with the cost advantages of the global safety critic.
        goals: the policies that are to improve; the first goal is that of the adapted policies.
        ranks: the processes that hold the other tasks.
        threads: share the tasks.
    """

    start: Tensor
    pre: TaskData
    goals: Sequence[MetaGoal]
    ranks: Ranks = ALONE
    threads: RowThreads = ONE_THREAD


@dataclass(frozen=True, kw_only=True)
class OuterMethod(ABC):
    """Moves the meta-parameters theta after a meta-batch.

    Its fields are the keys of the configuration's section `outer`.

    Attributes:
        method: registry name.
        log_std: whether the meta-policy's exploration noise is learned. A first-order meta-gradient does not see what
            noise is good for. Less noise pays after adaptation, but an adaptation step within the trust region moves
            the mean action by at most sqrt(2 max_kl) standard deviations, so that less noise also means smaller steps.
            On nav2d a learned log_std makes adaptation too weak.
        average: the meta-policy that is deployed (validated, adapted to test tasks, exported) is the running mean of
            theta, in which the newest theta counts 1/average, or 1/i in meta-iteration i if that is more; 1 deploys the
            newest theta. Theta swings with the multipliers, and the mean does not (Polyak & Juditsky 1992).
        differentiates: whether the method needs the derivative of the inner steps.
    """

    method: str
    log_std: bool = True
    average: int = bounded(1, low=1)

    differentiates: ClassVar[bool] = False

    @property
    def passes(self) -> int:
        """Number of meta-optimiser steps on one meta-batch."""
        return 1

    @property
    def every_step(self) -> bool:
        """Whether the policies of all adaptation steps count, with those before the first one, or only the last."""
        return False

    @property
    def radius_lr(self) -> float:
        """How fast the lengths of the adaptation steps are learned, see `move_lengths`; 0 keeps them as configured."""
        return 0.0

    def length_gradient(self, actor: Actor, batch: MetaBatch) -> Tensor:
        """The gradient of what is to fall, in the logarithms of the lengths of the K adaptation steps.

        Args:
            actor: the network that runs the parameters.
            batch: rollouts, policies, and the steps that led to them.

        Returns:
            The mean over the tasks of all ranks, (K,).

        Raises:
            NotImplementedError: the method learns no lengths.
        """
        raise NotImplementedError(f"{self.method} learns no lengths of the adaptation steps")

    @property
    @abstractmethod
    def max_kl(self) -> float | None:
        """Largest mean KL(old || new) of all passes on one meta-batch together, nats; None for no limit."""

    @property
    @abstractmethod
    def safety_term(self) -> bool:
        """Whether the safety term w(eta) grad E[log pi A_C] may be added to the meta-gradient."""

    @abstractmethod
    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The meta-optimiser of theta."""

    def adaptation(self, inner: InnerMethod, ranks: Ranks = ALONE) -> InnerMethod:
        """The inner method by which tasks adapt in meta-training: `inner` itself, unless a baseline overrides this.

        Validation and the meta-test always adapt by `inner`.
        """
        return inner

    def last_step(
        self, actor: Actor, inner: InnerMethod, theta: Tensor, multiplier: Tensor, post: TaskData
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What follows from the adapted policies' own rollouts: new multipliers. Only a baseline takes a step.

        Args:
            actor: the network that runs the parameters.
            inner: the inner method that `adaptation` gave.
            theta: the parameters that collected `post`, (tasks, P); not changed.
            multiplier: lambda^p, (tasks,).
            post: rollouts of `theta`.

        Returns:
            The theta^p, (tasks, P); lambda^p, (tasks,), which later tasks start from; and the weight of the cost in
            the MetaGoal, (tasks,).
        """
        return theta, *inner.judge(actor, theta, multiplier, post)

    @abstractmethod
    def direction(self, actor: Actor, theta: Tensor, batch: MetaBatch) -> Tensor:
        """The meta-gradient g; the meta-optimiser moves theta along -g.

        Args:
            actor: the network that runs the parameters.
            theta: meta-parameters, (P,): `batch.start`, moved by earlier passes on the same batch.
            batch: rollouts and policies.

        Returns:
            g of this rank's tasks, (P,), a new tensor; the module averages it over the ranks. Its entries for log_std
            are 0 if log_std is not learned.
        """

    def precondition(self, actor: Actor, theta: Tensor, gradient: Tensor, batch: MetaBatch) -> Tensor:
        """What the meta-optimiser is given for a gradient: the gradient itself, unless a method takes its own step.

        Args:
            actor: the network that runs the parameters.
            theta: meta-parameters, (P,).
            gradient: `direction` with the safety term, averaged over the ranks, (P,).
            batch: what it was computed from.
        """
        return gradient

    def learned(self, actor: Actor, direction: Tensor) -> Tensor:
        """`direction`, (P,), with 0 for log_std if log_std is not learned."""
        if self.log_std:
            return direction
        result = direction.clone()
        result[actor.log_std_slice] = 0.0
        return result


@dataclass(frozen=True, kw_only=True)
class MetaLearner(OuterMethod):
    """An outer method of C-MAML: Adam steps along the sum of the method's meta-gradient and the safety term.

    Attributes:
        lr: Adam's step size (the default of Adam's authors).
        max_kl: largest mean KL(old || new) of the meta-policy in a meta-iteration, nats; null for no limit.
    """

    lr: float = bounded(1.0e-3, above=0)
    max_kl: float | None = bounded(None, above=0)

    @property
    def safety_term(self) -> bool:
        """True: the safety term is added."""
        return True

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(parameters, lr=self.lr)

    def direction(self, actor: Actor, theta: Tensor, batch: MetaBatch) -> Tensor:
        """The mean over the goals, and over the tasks of each; see OuterMethod.direction."""
        moved, gradients = theta - batch.start, []
        for goal in batch.goals:
            # when a pass moves theta, every adapted policy moves by the same amount, to first order
            now = replace(goal, adapted=goal.adapted + moved)
            rows = goal.pull_back(self._gradients(actor, theta, now, batch.threads))
            gradients.append(rows.sum(dim=0) / max(len(rows), 1))  # 0 on a rank without a task
        return self.learned(actor, torch.stack(gradients).mean(dim=0))

    @abstractmethod
    def _gradients(self, actor: Actor, theta: Tensor, goal: MetaGoal, threads: RowThreads) -> Tensor:
        """What each task wants, whose mean over tasks is g, (tasks, P); for log_std as well.

        A method that `differentiates` gives gradients in theta^p.
        """


@dataclass(frozen=True, kw_only=True)
class TrustRegionLearner(OuterMethod):
    """An outer method whose step is a trust-region step of the meta-policy, over its states on the tasks of all ranks.

    The meta-optimiser takes that step as it is.

    Attributes:
        max_kl: largest mean KL(old || new) of the meta-policy in a meta-iteration, nats (OmniSafe's of a TRPO step).
        cg_iterations: as in TrustRegion.
        cg_damping: as in TrustRegion.
    """

    max_kl: float = bounded(0.01, above=0)
    cg_iterations: int = bounded(10, low=1)
    cg_damping: float = bounded(0.1, low=0)

    @property
    def safety_term(self) -> bool:
        """False: the step itself minds the cost."""
        return False

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Gradient descent with step size 1, which takes the step as it is."""
        return torch.optim.SGD(parameters, lr=1.0)

    @property
    def region(self) -> TrustRegion:
        """The trust region of the meta-step; log_std does not move if it is not learned."""
        return TrustRegion(
            max_kl=self.max_kl,
            parameters="all" if self.log_std else "mean",
            cg_iterations=self.cg_iterations,
            cg_damping=self.cg_damping,
        )

    def precondition(self, actor: Actor, theta: Tensor, gradient: Tensor, batch: MetaBatch) -> Tensor:
        """Minus the trust-region step against the gradient, the same on all ranks; see OuterMethod.precondition."""
        region, old, states = self.region, theta[None], pool(gather(batch.pre, batch.ranks))
        product, downhill = region.fisher(actor, old, states), -self.learned(actor, gradient)[None]
        step = natural_step(product, downhill, max_kl=region.max_kl, iterations=region.cg_iterations)
        # ranks on other hardware differ in the last bits, and what differs in theta would stay
        return batch.ranks.average(-region.reach(actor, old, states, step)[0], 1)
