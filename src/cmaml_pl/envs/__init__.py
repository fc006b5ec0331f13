"""Batched environments: nav2d, and Safety-Gymnasium's tasks, run by the navigation engine or by Safety-Gymnasium.

`rollout` uses their common base class `TaskEnv`; the families in `tasks` make the environments.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.envs.navigation import NavigationEnv as NavigationEnv


def __getattr__(name: str) -> Any:
    """Import NavigationEnv only when it is used, because MuJoCo and Safety-Gymnasium take time to import."""
    if name == "NavigationEnv":
        from cmaml_pl.envs.navigation import NavigationEnv

        return NavigationEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
