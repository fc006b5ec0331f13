"""The adaptation of eta, the multiplier of the outer update's safety term."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_callbacks._checks import iteration_of, require_cmaml
from cmaml_pl.algorithm.adaptation import Stage
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.math.multiplier import ascend


class Eta(Callback):
    """Sets eta <- clip(eta + lr (Jhat_C - m d), 0, high) after every meta-iteration.

    Jhat_C is the safety critic's prediction of the meta-policy's cost per episode, d is the mean limit of the tasks,
    and m is the module's `safety_margin`. This callback belongs after `SafetyCritic` in the list of callbacks, so that
    the critic is already fitted to the meta-iteration.

    Args:
        lr: step size a_eta, per unit of episode cost.
        high: largest eta.
        predicted: whether eta follows Jhat_C, or the measured cost J_C in its place.
    """

    def __init__(self, *, lr: float, high: float, predicted: bool = True) -> None:
        if not (lr >= 0 and high >= 0):
            raise ValueError(f"lr and high must not be negative, but are {lr} and {high}")
        self.lr, self.high, self.predicted = lr, high, predicted
        self._value: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give a resumed module the eta of its checkpoint."""
        module = require_cmaml(self, pl_module)
        if self._value is not None:
            module.eta.fill_(self._value)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move eta."""
        self.update(require_cmaml(self, pl_module), iteration_of(outputs).pre)

    @torch.no_grad()
    def update(self, module: CMAML, pre: Stage) -> None:
        """Take one step of projected dual ascent on `module.eta`, for the rollout of the meta-policy in `pre`."""
        limit = module.meta_limit(pre.data)
        if self.predicted:
            cost = module.predicted_episode_cost(pre.rollout)
        else:
            cost = module.ranks.mean(pre.data.episode_cost)
        module.eta.copy_(ascend(module.eta, cost, limit, lr=self.lr, high=self.high))
        self._value = float(module.eta)

    def state_dict(self) -> dict[str, Any]:
        """The current eta."""
        return {} if self._value is None else {"eta": self._value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the checkpoint's eta until the fit starts."""
        self._value = state_dict.get("eta")
