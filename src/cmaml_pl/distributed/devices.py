"""Chooses what computes the updates, and in how many processes, from the arguments of Lightning's Trainer."""

from typing import Any

import torch
from lightning.pytorch.accelerators import CUDAAccelerator

from cmaml_pl.distributed.strategy import RanksStrategy
from cmaml_pl.errors import UserError

ACCELERATORS = ("cpu", "gpu", "cuda", "auto")
"""What trainer.accelerator may be; gpu is cuda, and auto is cuda where there is such a device, otherwise cpu."""


def choose_accelerator(*, accelerator: Any = "cpu", **others: Any) -> str:
    """Which of "cpu" and "cuda" the `accelerator` of the Trainer's arguments is.

    Raises:
        UserError: it is none of ACCELERATORS, or there is no GPU.
    """
    if accelerator not in ACCELERATORS:
        raise UserError(
            f"trainer.accelerator is {accelerator!r}, but must be one of {', '.join(ACCELERATORS)}: others were not "
            "tried, and Apple's has no numbers of 64 bits."
        )
    if accelerator == "cpu" or (accelerator == "auto" and not CUDAAccelerator.is_available()):
        return "cpu"
    if not CUDAAccelerator.is_available():
        raise UserError(
            f"trainer.accelerator is {accelerator}, but PyTorch {torch.__version__} finds no CUDA device here: install "
            "a driver and a PyTorch with CUDA, or set trainer.accelerator=cpu, or auto, a GPU where there is one."
        )
    return "cuda"


def choose_strategy(
    chosen: str, /, *, strategy: Any = "auto", devices: Any = 1, num_nodes: Any = 1, **others: Any
) -> RanksStrategy | str:
    """Lightning's own strategy for one process, RanksStrategy for several.

    Args:
        chosen: what `choose_accelerator` gave.
        strategy: of the Trainer's arguments, as all others.
        devices: number of processes on a machine; for GPUs also a list of the GPUs.
        num_nodes: number of machines.
        others: what does not matter here.

    Raises:
        UserError: the strategy is another one.
    """
    if strategy not in ("auto", "ddp"):
        raise UserError(f"trainer.strategy is {strategy!r}, but must be ddp, for several processes, or auto.")
    if chosen == "cuda" and devices == "auto":
        devices = CUDAAccelerator.auto_device_count()
    devices = len(devices) if isinstance(devices, list) else devices
    several = any(str(number) not in ("1", "auto") for number in (devices, num_nodes))
    return RanksStrategy(chosen) if several else "auto"
