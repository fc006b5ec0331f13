"""The interface of inner methods, each of which takes one adaptation step for many tasks at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.math.advantages import weigh
from cmaml_pl.math.gaussian import gaussian_kl, gaussian_log_prob
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData

PullBack = Callable[[Tensor], Tensor]
"""Maps gradients in adapted parameters to gradients in those that adaptation started from, both (tasks, P)."""


@runtime_checkable
class Stretchable(Protocol):
    """A trust region that sets how long a step is, and can make it longer or shorter."""

    def stretched(self, factor: float) -> Self:
        """The region whose steps are, to first order, `factor` times as long in parameters; 1 changes nothing."""


@dataclass(frozen=True)
class InnerStep:
    """The result of one adaptation step.

    Attributes:
        theta: adapted parameters, a new tensor, (tasks, P).
        multiplier: lambda^p, (tasks,): the weight of the standardised cost advantage against the reward advantage in
            the outer loss, see `lagrangian_advantage`. The step uses it as well, with two exceptions: a proportional
            term is added for one step, and P3O ignores the cost within the limit.
        kl: mean KL(old || new) of the step, nats, (tasks,).
        step_share: accepted share of the full step, or of the passes of a method without second derivatives, (tasks,);
            0 if no length or no pass was accepted.
        infeasible: whether no step within the trust region was expected to meet the limit, bool, (tasks,). It is False
            for a method that does not check this.
    """

    theta: Tensor
    multiplier: Tensor
    kl: Tensor
    step_share: Tensor
    infeasible: Tensor


@dataclass(frozen=True, kw_only=True)
class InnerMethod(ABC):
    """A safe RL method that adapts a policy to its task, one step per rollout.

    Its fields are the keys of the configuration's section `inner`.

    Attributes:
        method: registry name.
        steps: K, number of adaptation steps in meta-training, each on new data.
        cost_limit: d, cost per episode (25 is Safety-Gymnasium's limit for episodes of 1000 steps).
        cost_limit_discount: discount of the cost that the limit is on, from the start of an episode; 1 for the plain
            sum. Everything that is compared with the limit is in its unit.
        differentiable: whether it has `pull_back`.
        shares_policy: whether all tasks have one policy, so that no step depends on the data of one task alone.
    """

    method: str
    steps: int = bounded(1, low=1)
    cost_limit: float = bounded(25.0, low=0, finite=False)
    cost_limit_discount: float = bounded(1.0, above=0, high=1)

    differentiable: ClassVar[bool] = False
    shares_policy: ClassVar[bool] = False

    @property
    def multiplier_init(self) -> float:
        """Start of lambda in the first meta-iteration; 0 if the method computes its multiplier anew in each step."""
        return 0.0

    @property
    def multiplier_carry(self) -> float:
        """Share of the tasks' mean change of lambda that is added to the start of lambda for the next tasks.

        It is 0 if the method computes its multiplier anew in each step.
        """
        return 0.0

    @property
    def stretchable(self) -> bool:
        """Whether its steps can be `stretched`: by default, if its field `trust_region` can."""
        return isinstance(getattr(self, "trust_region", None), Stretchable)

    def stretched(self, factor: float) -> "InnerMethod":
        """The method whose steps are `factor` times as long, for outer methods that learn their lengths.

        Raises:
            NotImplementedError: the method is not `stretchable`.
        """
        region = getattr(self, "trust_region", None)
        if not self.stretchable or not isinstance(region, Stretchable):
            raise NotImplementedError(f"the steps of {self.method} cannot be made longer or shorter")
        changed: dict[str, Any] = {"trust_region": region.stretched(factor)}
        return replace(self, **changed)

    @abstractmethod
    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """One step for every task.

        Args:
            actor: the network that runs the parameters.
            theta: the parameters that collected `data`, (tasks, P); not changed.
            multiplier: lambda^p before the step, (tasks,); ignored by a method that computes it anew in each step.
            data: rollouts of `theta`.
        """

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """The multiplier after the policy's own rollouts, without a step of the policy.

        The outer update calls it for the adapted policies. With one adaptation step, lambda would otherwise depend on
        the cost of the meta-policy only.

        Args:
            actor: the network that runs the parameters.
            theta: the parameters that collected `data`, (tasks, P).
            multiplier: lambda^p before, (tasks,).
            data: rollouts of `theta`.

        Returns:
            The new lambda^p, and the weight of the cost advantage in the outer loss, both (tasks,).
        """
        return multiplier, multiplier

    def pull_back(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData, step: Tensor) -> PullBack:
        """The derivative of the step of every task, as a map of gradients.

        Args:
            actor: the network that runs the parameters.
            theta: the parameters that collected `data`, (tasks, P).
            multiplier: lambda^p before the step, (tasks,).
            data: rollouts of `theta`.
            step: how far the step moved them, (tasks, P).

        Raises:
            NotImplementedError: the method is not `differentiable`.
        """
        raise NotImplementedError(f"{self.method} has no derivative of its step")


def likelihood_ratio(actor: Actor, theta: Tensor, data: TaskData) -> Tensor:
    """pi_theta(a|s) / pi_old(a|s), (tasks, samples)."""
    return ratio_of(*actor.stacked(theta, data.features), data)


def ratio_of(loc: Tensor, scale: Tensor, data: TaskData) -> Tensor:
    """N(a; loc, scale^2) / pi_old(a|s), (tasks, samples), for what an actor gives, (tasks, samples, A) each."""
    return (gaussian_log_prob(loc, scale, data.action) - data.log_prob).exp()


def clipped_surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """E[min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)], of two (tasks, samples), (tasks,) (Schulman et al. 2017)."""
    return torch.minimum(ratio * advantage, ratio.clamp(1.0 - clip, 1.0 + clip) * advantage).mean(dim=1)


def mean_kl(actor: Actor, theta: Tensor, data: TaskData, *, every: int = 1) -> Tensor:
    """KL(old || theta), nats, (tasks,): the mean over each task's samples, of which only every `every`-th is used.

    An actor that remembers has to run all of them, so that all are used.
    """
    rows = slice(None, None, 1 if actor.state_size else every)
    return kl_to(*actor.stacked(theta, data.features[:, rows]), data, rows)


def kl_to(loc: Tensor, scale: Tensor, data: TaskData, rows: slice = slice(None)) -> Tensor:
    """KL(old || N(loc, scale^2)), nats, (tasks,), for what an actor gives in `rows` of each task's samples."""
    return gaussian_kl(data.loc[:, rows], data.scale[:, rows], loc, scale).mean(dim=1)


def lagrangian_advantage(data: TaskData, multiplier: Tensor) -> Tensor:
    """A = (A_r - lambda A_c) / (1 + lambda) of standardised advantages, (tasks, samples).

    Standardising both makes lambda a plain number: at lambda = 1 reward and cost weigh the same, whatever their units,
    so that one step size of the multiplier serves every environment.
    """
    return weigh(data.reward_signal, data.cost_signal, multiplier)
