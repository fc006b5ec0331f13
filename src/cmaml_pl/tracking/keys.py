"""The key of W&B: whether there is one, by W&B's own look-up."""

import wandb
from wandb.errors import AuthenticationError

from cmaml_pl.errors import UserError
from cmaml_pl.tracking.wandb_logger import set_up_wandb


def has_wandb_key() -> bool:
    """Whether W&B finds a key, in the environment, its settings or the user's netrc file; nobody is asked for one.

    Raises:
        UserError: what it finds is no key.
    """
    set_up_wandb(offline=False)  # quietly: where WANDB_MODE says offline, it would not look
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except AuthenticationError as error:
        raise UserError(f"W&B refuses the key: {error} Mend it, or set logger.wandb=offline.") from None


def require_wandb_key(reason: str) -> None:
    """Raise a UserError that begins with the reason where there is no W&B key."""
    if not has_wandb_key():
        raise UserError(f"{reason}, but there is no W&B key: run `wandb login`, or set WANDB_API_KEY.")
