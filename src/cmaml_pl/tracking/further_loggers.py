"""The loggers that a user adds beside W&B's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from cmaml_pl.errors import UserError
from cmaml_pl.imports import make_parts


def further_loggers(others: Sequence[Any], *, tensorboard: bool, folder: Path) -> list[Logger]:
    """TensorBoard's, if it is asked for, and others.

    Args:
        others: see `make_parts`; a logger that takes a `save_dir` gets `folder`.
        tensorboard: whether to write event files to `folder`/tensorboard; a run that goes on adds one there.
        folder: of the run.

    Raises:
        UserError: a logger cannot be made.
    """
    result: list[Logger] = make_parts("logger.others", others, Logger, save_dir=folder)
    if not tensorboard:
        return result
    try:
        return [TensorBoardLogger(save_dir=folder, name="", version="tensorboard"), *result]
    except ModuleNotFoundError:
        raise UserError(
            "logger.tensorboard is true, but the package tensorboard is missing: pip install tensorboard."
        ) from None
