"""Batched environments: nav2d, and Safety-Gymnasium's tasks, run by the two engines or by Safety-Gymnasium itself.

`rollout` uses their common base class `TaskEnv`; the families in `tasks` make the environments.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.envs.locomotion import LocomotionEnv as LocomotionEnv
    from cmaml_pl.envs.navigation import NavigationEnv as NavigationEnv

ENGINES = {"NavigationEnv": "cmaml_pl.envs.navigation", "LocomotionEnv": "cmaml_pl.envs.locomotion"}
"""Environment -> module."""


def __getattr__(name: str) -> Any:
    """Import an engine only when it is used, because MuJoCo and Safety-Gymnasium take time to import."""
    if name in ENGINES:
        return getattr(import_module(ENGINES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
