"""Batched environments: nav2d, and Safety-Gymnasium's tasks, run by the two engines or by Safety-Gymnasium itself.

`rollout` uses their common base class `TaskEnv`; the families in `tasks` make the environments. `make_vec` and
`make_sb3_vec` give the engines to other libraries, and need neither PyTorch (SB3 does) nor the rest of this package.
`engine/pyproject.toml` lists the modules that these two need. They are also a distribution of their own, in which the
package is called cmaml_engine; they therefore import each other by relative imports.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checking import check_task_env as check_task_env
    from .locomotion import LocomotionEnv as LocomotionEnv
    from .navigation import NavigationEnv as NavigationEnv
    from .registration import register_envs as register_envs
    from .safety_gymnasium_ids import ENGINE_IDS as ENGINE_IDS
    from .sb3 import as_sb3 as as_sb3
    from .sb3 import make_sb3_vec as make_sb3_vec
    from .vector import make_vec as make_vec

MODULES = {
    "check_task_env": "checking",
    "NavigationEnv": "navigation",
    "LocomotionEnv": "locomotion",
    "make_vec": "vector",
    "ENGINE_IDS": "safety_gymnasium_ids",
    "register_envs": "registration",
    "make_sb3_vec": "sb3",
    "as_sb3": "sb3",
}
"""Name -> module of this package."""


def __getattr__(name: str) -> Any:
    """Import an engine only when it is used, because MuJoCo and Safety-Gymnasium take time to import.

    Raises:
        ImportError: the name is the trainer's, and only the engine is installed.
    """
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(f"{__name__}."):
            raise
        raise ImportError(
            f"{name} belongs to the trainer, and is not in the engine's own distribution: install cmaml_pl, and "
            f"write `from cmaml_pl.envs import {name}`."
        ) from None
