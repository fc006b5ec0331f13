"""Undoes a meta-iteration with numbers that are not finite."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cmaml_callbacks._checks import iteration_of, require_cmaml
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Before:
    """A copy of everything that a meta-iteration may change, made before it.

    Attributes:
        tensors: name -> parameter or buffer of the module. The count of environment steps is left out, because these
            steps were taken even if the meta-iteration is undone.
        optimizer: state of the meta-optimiser.
        learners: states of the callbacks that learn.
    """

    tensors: dict[str, Tensor]
    optimizer: dict[str, Any]
    learners: list[dict[str, Any]]


class Safeguard(Callback):
    """Drops (undoes) a meta-iteration with numbers that are not finite; stops the run after too many in a row.

    A meta-iteration is dropped if no task in it was finite (see `cmaml_pl.algorithm.adaptation.sound_stages`), or if
    the meta-gradient, a parameter or a buffer is not finite after it. Parameters, buffers and optimisers are then set
    back to their state before the meta-iteration, and its record tells later callbacks that it was dropped.
    `health/dropped_iterations`, the number of dropped meta-iterations so far, is logged. This callback belongs after
    the callbacks that learn, and before those that watch or save.

    Args:
        learners: the callbacks that learn from a meta-iteration.
        max_dropped: number of dropped meta-iterations in a row after which the run ends.
        checkpoint: path of the run's checkpoint, which a dropped meta-iteration must not overwrite.
    """

    def __init__(self, learners: Sequence[Callback], *, max_dropped: int, checkpoint: Path) -> None:
        if max_dropped < 1:
            raise ValueError(f"max_dropped is {max_dropped}, but must be at least 1")
        self.learners, self.max_dropped, self.checkpoint = learners, max_dropped, checkpoint
        self.dropped, self.in_a_row = 0, 0
        self._before: Before | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Copy everything that the meta-iteration may change; this takes some milliseconds for networks of 64 units."""
        module = require_cmaml(self, pl_module)
        self._before = Before(
            {name: tensor.detach().clone() for name, tensor in _tensors(module).items() if name != "env_steps"},
            copy.deepcopy(trainer.optimizers[0].state_dict()),
            [copy.deepcopy(learner.state_dict()) for learner in self.learners],
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Drop the meta-iteration if a number is not finite."""
        module, record = require_cmaml(self, pl_module), iteration_of(outputs)
        no_task = record.broken == len(batch)
        wrong = "a rollout or adaptation step of every task" if no_task else find_wrong(module)
        if wrong:
            self.undo(trainer, module)
            record.dropped = True
            self.count(trainer.current_epoch + 1, wrong)
        else:
            self.in_a_row = 0
        module.log("health/dropped_iterations", float(self.dropped), batch_size=len(batch))

    def undo(self, trainer: Trainer, module: CMAML) -> None:
        """Set everything back to its state before the meta-iteration."""
        assert self._before is not None, "no meta-iteration has begun"
        now = _tensors(module)
        with torch.no_grad():
            for name, tensor in self._before.tensors.items():
                now[name].copy_(tensor)
        trainer.optimizers[0].load_state_dict(self._before.optimizer)
        for learner, state in zip(self.learners, self._before.learners, strict=True):
            learner.load_state_dict(state)
            learner.on_fit_start(trainer, module)  # as in a run that is resumed from a checkpoint

    def count(self, iteration: int, wrong: str) -> None:
        """Count a dropped meta-iteration, and warn of it or end the run.

        Args:
            iteration: number of the meta-iteration, from 1.
            wrong: name of the number that is not finite.

        Raises:
            UserError: `max_dropped` meta-iterations in a row were dropped.
        """
        self.dropped, self.in_a_row = self.dropped + 1, self.in_a_row + 1
        if self.in_a_row >= self.max_dropped:
            last_good = (
                f"The last good checkpoint is {self.checkpoint}, of meta-iteration {iteration - self.in_a_row}."
                if self.checkpoint.exists()
                else "There is no checkpoint: the run has had no good meta-iteration."
            )
            raise UserError(
                f"{self.in_a_row} meta-iterations in a row (train.max_dropped) were dropped, the last one because "
                f"{wrong} is not finite. {last_good} Look at what the environment returns, and at outer.lr and "
                "inner.trust_region.max_kl."
            )
        if self.dropped.bit_count() == 1:  # warn of the 1st, 2nd, 4th, 8th ... only, not of all
            logger.warning(
                "Meta-iteration %d was dropped, the policy stays as it was: %s is not finite. Dropped so far: %d.",
                iteration,
                wrong,
                self.dropped,
            )

    def state_dict(self) -> dict[str, Any]:
        """The number of dropped meta-iterations.

        The number in a row is always 0 here, because a checkpoint is written only after a good meta-iteration.
        """
        return {"dropped": self.dropped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count of a checkpoint."""
        self.dropped = state_dict["dropped"]


def find_wrong(module: CMAML) -> str | None:
    """Name of the first meta-gradient, parameter or buffer that is not finite, for messages; None if all are finite."""
    gradients = {f"the gradient of actor.{name}": p.grad for name, p in module.actor.named_parameters()}
    for name, tensor in {**gradients, **_tensors(module)}.items():
        if tensor is not None and not tensor.isfinite().all():
            return name
    return None


def _tensors(module: CMAML) -> dict[str, Tensor]:
    """Name -> parameter or buffer; eta is included, although it is not in the module's state_dict."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
