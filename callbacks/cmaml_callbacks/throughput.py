"""Measures how fast meta-training runs."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cmaml_callbacks._checks import iteration_of, require_cmaml


class Throughput(Callback):
    """Logs environment steps, their rate, failed episodes and, with several ranks, the share of communication.

    - `throughput/env_steps`: number of environment steps of the whole run, on all ranks.
    - `throughput/env_steps_per_s`: environment steps of this meta-iteration per second. The time runs from the end of
      the training step of the last meta-iteration to the end of this one's; it includes the callbacks between them, but
      not validation.
    - `throughput/failed_episodes`: number of episodes of this meta-iteration that ended because their physics failed.
    - `throughput/communication_share`: share of the time in which this rank sends, or waits for other ranks.
    - `throughput/messages`: number of messages of this meta-iteration, each from and to all ranks.

    This callback belongs first in the list of callbacks.
    """

    def __init__(self) -> None:
        self._started: float | None = None
        self._failures = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock, unless it already runs since the last meta-iteration."""
        self._started = self._started or time.perf_counter()
        self._failures = require_cmaml(self, pl_module).rollouts.env.failures

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the metrics, and start the clock for the next meta-iteration."""
        assert self._started is not None, "no meta-iteration has begun"
        module = require_cmaml(self, pl_module)
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        metrics: dict[str, Tensor | float] = {
            "env_steps": module.env_steps.double(),  # float32 cannot hold large numbers of steps exactly
            "env_steps_per_s": iteration_of(outputs).env_steps / seconds,
            "failed_episodes": float(module.ranks.total(module.rollouts.env.failures - self._failures)),
        }
        if module.ranks.size > 1:
            waited, messages = module.ranks.take_communication()
            metrics |= {"communication_share": waited / seconds, "messages": float(messages)}
        module.log_dict({f"throughput/{name}": value for name, value in metrics.items()}, batch_size=len(batch))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock and forget the communication until now, so that validation does not count."""
        self._started = None
        require_cmaml(self, pl_module).ranks.take_communication()
