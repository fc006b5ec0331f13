"""How fast meta-training runs."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cmaml_callbacks._checks import iteration_of, require_cmaml


class Throughput(Callback):
    """Log environment steps, their rate, failed episodes and, with several ranks, the share of communication.

    - `throughput/env_steps`: of the whole run, on all ranks.
    - `throughput/env_steps_per_s`: from the end of one meta-iteration's training step to the end of the next one's, the
      callbacks between them included, validation left out.
    - `throughput/failed_episodes`: of this meta-iteration, those that ended because their physics failed.
    - `throughput/communication_share`: of the time, that in which this rank sends or waits.

    It belongs first in the list of callbacks.
    """

    def __init__(self) -> None:
        self._started: float | None = None
        self._failures = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look at the clock, unless it has run on since the meta-iteration before."""
        self._started = self._started or time.perf_counter()
        self._failures = require_cmaml(self, pl_module).rollouts.env.failures

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log, and look at the clock for the next meta-iteration."""
        assert self._started is not None, "no meta-iteration has begun"
        module = require_cmaml(self, pl_module)
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        metrics: dict[str, Tensor | float] = {
            "env_steps": module.env_steps.double(),  # they outgrow the whole numbers that float32 holds
            "env_steps_per_s": iteration_of(outputs).env_steps / seconds,
            "failed_episodes": float(module.ranks.total(module.rollouts.env.failures - self._failures)),
        }
        if module.ranks.size > 1:
            metrics["communication_share"] = module.ranks.take_seconds() / seconds
        module.log_dict({f"throughput/{name}": value for name, value in metrics.items()}, batch_size=len(batch))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep validation out of it."""
        self._started = None
        require_cmaml(self, pl_module).ranks.take_seconds()
