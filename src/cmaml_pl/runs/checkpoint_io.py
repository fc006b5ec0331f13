"""Checkpoints are written in one move, and the one before is kept."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from cmaml_pl.errors import UserError
from cmaml_pl.files import in_one_move


class AtomicCheckpointIO(TorchCheckpointIO):
    """Whatever happens while a checkpoint is written, by a kill or a full disk, a whole one stays.

    Lightning's own goes by way of the system's temporary folder, often another disk, from which nothing can be moved in
    one step.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write beside `path`, then move what is there to `previous(path)`, and the new one to `path`.

        Raises:
            UserError: it cannot be written; what was there is as it was.
        """
        path = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with in_one_move(path) as scratch:
                with scratch.open("wb") as file:
                    file.write(content.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                if path.exists():
                    path.replace(previous(path))
        except OSError as error:
            kept = f"the last good one is {path}" if path.exists() else "there is none yet"
            raise UserError(f"The checkpoint {path} cannot be written: {error.strerror}; {kept}.") from None


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(f"previous{path.suffix}")
