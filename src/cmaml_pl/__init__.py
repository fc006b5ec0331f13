"""C-MAML: constrained model-agnostic meta reinforcement learning, as a modular trainer."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.algorithm.task_policy import Episode as Episode
    from cmaml_pl.algorithm.task_policy import TaskPolicy as TaskPolicy
    from cmaml_pl.assembly import load_run as load_run

__version__ = version("cmaml_pl")

_PLACES = {"load_run": "assembly", "TaskPolicy": "algorithm.task_policy", "Episode": "algorithm.task_policy"}


def __getattr__(name: str) -> Any:
    """Import what is public only when it is used, because Lightning and TorchRL take seconds to import."""
    if name in _PLACES:
        return getattr(import_module(f"cmaml_pl.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
