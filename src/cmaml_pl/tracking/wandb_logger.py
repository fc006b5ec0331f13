"""Lightning's WandbLogger, which training does not depend on."""

import logging
import os
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from wandb.errors import AuthenticationError, CommError, UsageError

from cmaml_pl.errors import UserError

logger = logging.getLogger(__name__)

FINISH_TIMEOUT = 600.0
"""Seconds that a run waits at its end for what W&B still has to upload; W&B's own default is for ever."""


class PatientWandbLogger(WandbLogger):
    """A WandbLogger that records offline where W&B's server does not take the run; arguments as WandbLogger's."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._arguments = arguments
        self._recorder: WandbLogger | None = None  # what records offline in its place

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, begun by the first call.

        Raises:
            UserError: W&B refuses the key or the name of the run, which to wait for is no help.
        """
        if self._recorder is not None:
            return self._recorder.experiment
        try:
            return super().experiment
        except (AuthenticationError, UsageError) as error:
            raise UserError(
                f"W&B refuses the run: {error} Mend logger.* or the key, or set logger.wandb=offline."
            ) from None
        except CommError as error:
            reason = str(error).splitlines()[0]
            logger.warning("W&B's server does not take the run, which is recorded offline (%s).", reason)
        wandb.teardown()  # it still holds the id of the run
        set_up_wandb(offline=True)
        self._recorder = WandbLogger(**{**self._arguments, "offline": True, "mode": "offline"})
        return self._recorder.experiment


def set_up_wandb(*, offline: bool) -> None:
    """Let W&B be quiet, since the summary says where the run is, and give up uploading at the end after some time.

    Raises:
        UserError: W&B cannot make sense of the environment.
    """
    settings = wandb.Settings(silent=True, mode="offline" if offline else "online")
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        settings.finish_timeout = FINISH_TIMEOUT
    try:
        wandb.setup(settings)
    except ValueError as error:  # pydantic's: a headline, the name of the setting, what is wrong with it
        what = ": ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"W&B refuses a WANDB_* variable of the environment, {what}. Mend it, or unset it.") from None


def find_wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """The Trainer's WandbLogger, if it has one."""
    return next((logger for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)
