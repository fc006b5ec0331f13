"""Batched environments: nav2d, and Safety-Gymnasium's tasks by the navigation engine or by its own worlds.

`TaskEnv`, which all of them are, is for `rollout`; the environments are for the families of `tasks`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.envs.navigation import NavigationEnv as NavigationEnv


def __getattr__(name: str) -> Any:
    """NavigationEnv, imported when it is asked for: MuJoCo and Safety-Gymnasium take their time."""
    if name == "NavigationEnv":
        from cmaml_pl.envs.navigation import NavigationEnv

        return NavigationEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
