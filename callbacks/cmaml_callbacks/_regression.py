"""What the callbacks that fit a critic share: its optimiser and how it is fitted, saved and taken up again."""

from typing import Any

import torch
from torch import Tensor

from cmaml_pl.nets.critics import explained_variance, fit_critic
from cmaml_pl.nets.networks import ValueNetwork


class Regression:
    """Regresses a critic by Adam on the targets of one meta-iteration after the other.

    Args:
        lr: Adam's step size.
        passes: over the samples of a meta-iteration.
        minibatch: samples in a step.
    """

    def __init__(self, *, lr: float, passes: int, minibatch: int) -> None:
        if not (lr > 0 and passes >= 1 and minibatch >= 1):
            raise ValueError(f"lr > 0, passes >= 1 and minibatch >= 1 are needed, not {lr}, {passes}, {minibatch}")
        self.lr, self.passes, self.minibatch = lr, passes, minibatch
        self._optimizer: torch.optim.Optimizer | None = None
        self._restored: dict[str, Any] | None = None

    def start(self, critic: ValueNetwork) -> None:
        """Make the critic's optimiser, or go on with that of a checkpoint."""
        self._optimizer = torch.optim.Adam(critic.parameters(), lr=self.lr)
        if self._restored is not None:
            self._optimizer.load_state_dict(self._restored)

    def fit(
        self, critic: ValueNetwork, features: Tensor, target: Tensor, *, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Fit `critic`; returns its loss, and the explained_variance of targets that it had not seen before.

        Args:
            critic: changed in place.
            features: normalised observations, (..., D).
            target: (..., 1).
            generator: of the shuffling.
        """
        assert self._optimizer is not None, "on_fit_start has not run"
        explained = explained_variance(critic, features, target)
        loss = fit_critic(
            critic,
            self._optimizer,
            features,
            target,
            passes=self.passes,
            minibatch=self.minibatch,
            generator=generator,
        )
        return {"loss": loss, "explained_variance": explained}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's moments; the critic itself is part of the module."""
        return {} if self._optimizer is None else {"optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the optimiser exists."""
        self._restored = state_dict.get("optimizer")
