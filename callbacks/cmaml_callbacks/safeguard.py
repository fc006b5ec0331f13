"""What happens to a meta-iteration whose numbers go wrong."""

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
    """What a meta-iteration may change, copied before it.

    Attributes:
        tensors: parameters and buffers of the module, by name; environment steps, which were taken all the same, are
            left out.
        optimizer: state of the meta-optimiser.
        learners: states of the callbacks that learn.
    """

    tensors: dict[str, Tensor]
    optimizer: dict[str, Any]
    learners: list[dict[str, Any]]


class Safeguard(Callback):
    """Drop a meta-iteration that left a number which is not finite; stop the run after too many in a row.

    Dropped is a meta-iteration of which no task was left (see `cmaml_pl.algorithm.adaptation.sound_stages`), or after
    which the meta-gradient, a parameter or a buffer is not finite. Parameters, buffers and optimisers are put back as
    they were before it, and its record tells later callbacks. `health/dropped_iterations`, how many there have been, is
    logged. It belongs after the callbacks that learn, and before those that judge or save.

    Args:
        learners: the callbacks that learn from a meta-iteration.
        max_dropped: meta-iterations in a row that end the run.
        checkpoint: where the run's checkpoint is; none may be written in a dropped meta-iteration.
    """

    def __init__(self, learners: Sequence[Callback], *, max_dropped: int, checkpoint: Path) -> None:
        if max_dropped < 1:
            raise ValueError(f"max_dropped is {max_dropped}, but must be at least 1")
        self.learners, self.max_dropped, self.checkpoint = learners, max_dropped, checkpoint
        self.dropped, self.in_a_row = 0, 0
        self._before: Before | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Copy what the meta-iteration may change: some milliseconds for networks of 64 units."""
        module = require_cmaml(self, pl_module)
        self._before = Before(
            {name: tensor.detach().clone() for name, tensor in _tensors(module).items() if name != "env_steps"},
            copy.deepcopy(trainer.optimizers[0].state_dict()),
            [copy.deepcopy(learner.state_dict()) for learner in self.learners],
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Drop the meta-iteration if it went wrong."""
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
        """Put everything back as it was before the meta-iteration."""
        assert self._before is not None, "no meta-iteration has begun"
        now = _tensors(module)
        with torch.no_grad():
            for name, tensor in self._before.tensors.items():
                now[name].copy_(tensor)
        trainer.optimizers[0].load_state_dict(self._before.optimizer)
        for learner, state in zip(self.learners, self._before.learners, strict=True):
            learner.load_state_dict(state)
            learner.on_fit_start(trainer, module)  # as in a run that goes on from a checkpoint

    def count(self, iteration: int, wrong: str) -> None:
        """One more was dropped; warn, or end the run.

        Raises:
            UserError: these were `max_dropped` in a row.
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
                "inner.max_kl."
            )
        if self.dropped.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: it is told, but not over and over
            logger.warning(
                "Meta-iteration %d was dropped, the policy stays as it was: %s is not finite. Dropped so far: %d.",
                iteration,
                wrong,
                self.dropped,
            )

    def state_dict(self) -> dict[str, Any]:
        """How many were dropped. None in a row: a checkpoint is written after a good meta-iteration alone."""
        return {"dropped": self.dropped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.dropped = state_dict["dropped"]


def find_wrong(module: CMAML) -> str | None:
    """What the user may be told of the first meta-gradient, parameter or buffer that is not finite."""
    gradients = {f"the gradient of actor.{name}": p.grad for name, p in module.actor.named_parameters()}
    for name, tensor in {**gradients, **_tensors(module)}.items():
        if tensor is not None and not tensor.isfinite().all():
            return name
    return None


def _tensors(module: CMAML) -> dict[str, Tensor]:
    """Parameters and buffers by name; eta, which is not part of the module's state_dict, among them."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
