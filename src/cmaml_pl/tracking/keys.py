"""Checks whether there is a key for W&B (Weights & Biases), with W&B's own look-up."""

import wandb
from wandb.errors import AuthenticationError

from cmaml_pl.errors import UserError
from cmaml_pl.tracking.wandb_logger import set_up_wandb


def has_wandb_key() -> bool:
    """Whether W&B finds a key in the environment, in its settings or in the user's netrc file; it asks nobody for one.

    Raises:
        UserError: W&B refuses the key that it finds.
    """
    # silences W&B and sets its mode to online, because with WANDB_MODE=offline W&B would not look for a key
    set_up_wandb(offline=False)
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except AuthenticationError as error:
        raise UserError(f"W&B refuses the key: {error} Mend it, or set logger.wandb=offline.") from None


def require_wandb_key(reason: str) -> None:
    """Raise a UserError if there is no W&B key; its message begins with `reason`, which says why a key is needed."""
    if not has_wandb_key():
        raise UserError(f"{reason}, but there is no W&B key: run `wandb login`, or set WANDB_API_KEY.")
