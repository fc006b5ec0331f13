"""Lightning's WandbLogger, changed so that training continues if W&B's server fails."""

import logging
import os
import re
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from wandb.errors import AuthenticationError, CommError, UsageError

from cmaml_pl.errors import UserError

logger = logging.getLogger(__name__)

FINISH_TIMEOUT = 600.0
"""Seconds that a run waits at its end for W&B's upload; W&B's own default is to wait without limit."""


class PatientWandbLogger(WandbLogger):
    """A WandbLogger that records offline if W&B's server does not accept the run; it takes WandbLogger's arguments."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._arguments = arguments
        self._recorder: WandbLogger | None = None  # the offline logger, once it is needed

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run; the first call starts it.

        Raises:
            UserError: W&B refuses the key or the name of the run. Recording offline would not help here.
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
        wandb.teardown()  # otherwise W&B still holds the id of the failed run
        set_up_wandb(offline=True)
        self._recorder = WandbLogger(**{**self._arguments, "offline": True, "mode": "offline"})
        return self._recorder.experiment


OURS: Mapping[str, Any] = MappingProxyType(
    {
        "finish_timeout": FINISH_TIMEOUT,
        # what would tell paths, the host, arguments or remotes: a project at W&B may be public
        "x_disable_meta": True,
        "x_save_requirements": False,
        "disable_git": True,
        "disable_code": True,
        "save_code": False,
        "console": "off",
        "host": "",
    }
)
"""W&B's settings that are not its defaults; the environment variable of a setting has priority."""


def set_up_wandb(*, offline: bool) -> None:
    """Silence W&B, limit the time that it uploads at the end of a run, and let it record nothing of the machine.

    W&B's messages are not needed, because the summary of a run says where the run is.

    Raises:
        UserError: W&B refuses a WANDB_* variable of the environment.
    """
    settings = wandb.Settings(silent=True, mode="offline" if offline else "online")
    for name, value in OURS.items():
        variable = f"WANDB_{re.sub('^x_', '_', name)}".upper()  # WANDB_CONSOLE, but WANDB__DISABLE_META
        if variable not in os.environ:
            setattr(settings, name, value)
    try:
        wandb.setup(settings)
    except ValueError as error:  # pydantic's text has three lines: a title, the name of the setting, the reason
        what = ": ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise UserError(f"W&B refuses a WANDB_* variable of the environment, {what}. Mend it, or unset it.") from None


def preload_wandb() -> None:
    """Import what W&B imports when a run begins, which takes seconds, so that forks of this process need not."""
    import_module("wandb.sdk.launch")


def find_wandb_logger(trainer: Trainer) -> WandbLogger | None:
    """The Trainer's WandbLogger; None if it has none."""
    return next((logger for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)
