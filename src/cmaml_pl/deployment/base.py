"""The interface of strategies of deployment: which policy plays the episodes of a task that is adapted to."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.bounds import bounded


@dataclass(frozen=True)
class Deployed:
    """What a batch of tasks plays in a rollout.

    Attributes:
        theta: the policies that adaptation has led to, (tasks, P).
        fallback: the policies that play the other episodes, (tasks, P); None where there are no others.
        share: probability with which an episode is played by `theta`, (tasks,).
        evidence: what the strategy remembers of the rollouts so far.
    """

    theta: Tensor
    fallback: Tensor | None
    share: Tensor
    evidence: Any = None

    @property
    def alone(self) -> Tensor:
        """Whether all episodes are played by `theta`, bool, (tasks,); only then adaptation can move it."""
        return self.share >= 1.0


@dataclass(frozen=True, kw_only=True)
class Deployment(ABC):
    """Decides in the meta-test which policy plays the episodes of a task.

    Its fields are the keys of the configuration's section `deployment`. Every task is decided on by itself, from its
    own episodes.

    Attributes:
        method: registry name.
        checkpoint: which one of a run is deployed: the "last", or the "best" of those that were validated.
        needs_limit: whether it needs a finite cost limit above 0.
    """

    method: str
    checkpoint: str = bounded("last", choices=("last", "best"))

    needs_limit: ClassVar[bool] = False

    @abstractmethod
    def start(self, theta: Tensor, cost_limit: Tensor) -> Deployed:
        """What the first rollout plays.

        Args:
            theta: the policies before adaptation, (tasks, P).
            cost_limit: d^p, (tasks,).
        """

    @abstractmethod
    def go_on(
        self, now: Deployed, theta: Tensor, rollout: TensorDictBase, worlds: Tensor, *, discount: float
    ) -> Deployed:
        """What the next rollout plays.

        Args:
            now: what the last rollout has played.
            theta: what an adaptation step has made of `now.theta`, (tasks, P); the same where it was not alone.
            rollout: the last rollout, TensorDict [tasks, envs, time].
            worlds: which worlds of it `now.theta` has played, bool, (tasks, envs).
            discount: of the cost that the limits are on.
        """


@dataclass(frozen=True, kw_only=True)
class Adapted(Deployment):
    """Deploys at every step what was adapted, whatever it costs."""

    method: str = "adapted"

    def start(self, theta: Tensor, cost_limit: Tensor) -> Deployed:
        """See Deployment."""
        return Deployed(theta, None, torch.ones(len(theta), device=theta.device))

    def go_on(
        self, now: Deployed, theta: Tensor, rollout: TensorDictBase, worlds: Tensor, *, discount: float
    ) -> Deployed:
        """See Deployment."""
        return Deployed(theta, None, now.share)
