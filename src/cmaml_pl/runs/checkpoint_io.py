"""Writes checkpoints so that a crash leaves no half-written one, and keeps the checkpoint before the newest one."""

import copy
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from cmaml_pl.errors import UserError
from cmaml_pl.files import in_one_move
from cmaml_pl.runs.checkpoints import LAST
from cmaml_pl.runs.upgrade import upgrade


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a whole one always remains, even after a kill or on a full disk during the write.

    Lightning's own TorchCheckpointIO writes to the system's temporary folder first. That folder is often on another
    disk, from which a file cannot be moved in one step.
    """

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Lightning's, with the checkpoints of earlier versions as this one would have written them."""
        return upgrade(super().load_checkpoint(path, *args, **kwargs))

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write the new checkpoint beside `path`, and in one move to `path`; an old LAST is kept as `previous`.

        Raises:
            UserError: the checkpoint cannot be written, or a callback's state could not be read again; the existing
                checkpoints are not damaged.
        """
        path, checkpoint = Path(path), _on_cpu(checkpoint)
        _require_plain_states(checkpoint.get("callbacks", {}))  # each time, because a state may change its types
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with in_one_move(path) as scratch:
                with scratch.open("wb") as file:
                    file.write(content.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                if path.name == LAST and path.exists():
                    path.replace(previous(path))
        except OSError as error:
            kept = f"the last good one is {path}" if path.exists() else "there is none yet"
            raise UserError(f"The checkpoint {path} cannot be written: {error.strerror}; {kept}.") from None


def _on_cpu(value: Any) -> Any:
    """The same with all tensors on the CPU, so that a machine without a GPU reads what one with a GPU has written."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        result = copy.copy(value)  # with the attributes that a module's state has
        result.update({key: _on_cpu(item) for key, item in value.items()})
        return result
    return type(value)(map(_on_cpu, value)) if type(value) in (list, tuple) else value


def _require_plain_states(states: Mapping[str, Any]) -> None:
    """Raise a UserError if a callback keeps what no checkpoint is read with: a checkpoint's code is never run."""
    for name, state in states.items():
        content = io.BytesIO()
        try:
            torch.save(state, content)
            content.seek(0)
            torch.load(content, weights_only=True)
        except Exception as error:  # noqa: BLE001  (a state may hold anything, and pickle raises nearly anything)
            raise UserError(
                f"trainer.callbacks: the state_dict of {name} cannot go into a checkpoint ({type(error).__name__}): it "
                "may hold tensors, numbers, strings, lists and mappings; write float(x) for a number of NumPy."
            ) from None


def previous(path: Path) -> Path:
    """The path at which the checkpoint before the one at `path` is kept."""
    return path.with_name(f"previous{path.suffix}")
