"""Trains on rollouts that were recorded: python -m tests.distributed.same_rollouts FILE key=value ...

FILE holds the rollouts, of all tasks; every process takes those of its own tasks, and computes with 64 bits, so that
what differs is not rounding. Where there is no FILE, they are collected, and written to it. The meta-gradients are
written beside it, by the first process.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict

from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.cli import main
from cmaml_pl.rollout.rollouts import Rollouts


def train_on(file: Path, overrides: list[str]) -> None:
    """Run the verb train, with rollouts from FILE or to it."""
    known = file.exists()
    kept = torch.load(file, weights_only=True) if known else {}
    collect, meta_step, start, gradients = Rollouts.collect, CMAML._meta_step, CMAML.on_fit_start, []

    def collect_or_replay(self: Rollouts, theta: torch.Tensor, *stream: str | int, **mixture: Any) -> TensorDict:
        if not known:
            kept[repr(stream)] = collect(self, theta, *stream, **mixture).clone().to_dict()
        part = self.ranks.part(self.num_tasks)
        batch = TensorDict.from_dict(kept[repr(stream)], auto_batch_size=True, batch_dims=3)[part]
        return batch.apply(lambda x: x.double() if known and x.is_floating_point() else x.clone())

    def keep_gradient(self: CMAML, gradient: torch.Tensor) -> None:
        gradients.append(gradient.clone())
        meta_step(self, gradient)

    def use_64_bits(self: CMAML) -> None:
        if known:
            self.double()
        start(self)

    Rollouts.collect, CMAML._meta_step = collect_or_replay, keep_gradient  # type: ignore[method-assign]
    CMAML.on_fit_start = use_64_bits  # type: ignore[method-assign]
    try:
        main(["train", *overrides])
    finally:
        Rollouts.collect, CMAML._meta_step = collect, meta_step  # type: ignore[method-assign]
        CMAML.on_fit_start = start  # type: ignore[method-assign]
    if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
        return
    if not known:
        torch.save(kept, file)
    torch.save(gradients, file.with_suffix(".gradients"))


if __name__ == "__main__":
    train_on(Path(sys.argv[1]), sys.argv[2:])
