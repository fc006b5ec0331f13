"""Batched environments: nav2d, and Safety-Gymnasium's tasks, run by the two engines or by Safety-Gymnasium itself.

`rollout` uses their common base class `TaskEnv`; the families in `tasks` make the environments. `make_vec` and
`make_sb3_vec` give the engines to other libraries, and need neither PyTorch (SB3 does) nor the rest of this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.envs.checking import check_task_env as check_task_env
    from cmaml_pl.envs.locomotion import LocomotionEnv as LocomotionEnv
    from cmaml_pl.envs.navigation import NavigationEnv as NavigationEnv
    from cmaml_pl.envs.registration import register_envs as register_envs
    from cmaml_pl.envs.safety_gymnasium_ids import ENGINE_IDS as ENGINE_IDS
    from cmaml_pl.envs.sb3 import as_sb3 as as_sb3
    from cmaml_pl.envs.sb3 import make_sb3_vec as make_sb3_vec
    from cmaml_pl.envs.vector import make_vec as make_vec

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
    """Import an engine only when it is used, because MuJoCo and Safety-Gymnasium take time to import."""
    if name in MODULES:
        return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
