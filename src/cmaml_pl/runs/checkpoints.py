"""Reads checkpoints, and restores modules from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmaml_pl.errors import UserError
from cmaml_pl.runs.upgrade import upgrade

LAST, BEST = "last.ckpt", "best.ckpt"
"""Names of the newest checkpoint in its folder, and of the best one of those that were validated."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read: the path of its file, and the tensors and plain values in it."""

    path: Path
    content: dict[str, Any]

    @property
    def iterations(self) -> int:
        """Number of meta-iterations that were done when it was written."""
        return int(self.content["epoch"]) + 1


def load_checkpoint(path: Path) -> Checkpoint:
    """The tensors and plain values of a checkpoint; a checkpoint that contains code is refused.

    Args:
        path: a checkpoint, or a run folder for its newest checkpoint.

    Raises:
        UserError: the file is missing, cut off, or no checkpoint, or it holds more than tensors and plain values.
    """
    path = path / "checkpoints" / LAST if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"The checkpoint {path} does not exist.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (for a damaged file torch and pickle raise nearly anything)
        # torch's own message is not shown, because it advises to load the file with the code that it may hold
        raise UserError(
            f"The checkpoint {path} cannot be read: it is cut off or not a checkpoint, or it holds code, which is "
            f"never run ({type(error).__name__})."
        ) from None
    known = isinstance(content, dict) and isinstance(content.get("state_dict"), dict)
    if not known or not isinstance(content.get("epoch"), int):
        raise UserError(f"{path} is not a checkpoint of cmaml_pl, which has a state_dict and an epoch.")
    return Checkpoint(path, upgrade(content))


def restore(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Give a module the parameters and buffers of a checkpoint.

    Raises:
        UserError: they do not fit the module's architecture.
    """
    try:
        module.load_state_dict(checkpoint.content["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{checkpoint.path} is from another configuration: {error}") from None
