"""Safety-Gymnasium's tasks as fast vector environments; the same code as `cmaml_pl.envs`, without the trainer."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from . import envs
from .errors import UserError as UserError

if TYPE_CHECKING:
    from .envs import ENGINE_IDS as ENGINE_IDS
    from .envs import as_sb3 as as_sb3
    from .envs import make_sb3_vec as make_sb3_vec
    from .envs import make_vec as make_vec
    from .envs import register_envs as register_envs

__version__ = version("cmaml_engine")

OFFERED = ("ENGINE_IDS", "as_sb3", "make_sb3_vec", "make_vec", "register_envs")
"""The names above."""


def __getattr__(name: str) -> Any:
    """What `envs` has, imported when it is used."""
    return getattr(envs, name)


def __dir__() -> list[str]:
    """What an interpreter completes."""
    return sorted({*globals(), *OFFERED})
