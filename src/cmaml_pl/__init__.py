"""C-MAML: constrained model-agnostic meta reinforcement learning, as a modular trainer."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.assembly import load_run as load_run

__version__ = version("cmaml_pl")


def __getattr__(name: str) -> Any:
    """Import `load_run` only when it is used, because Lightning and TorchRL take seconds to import."""
    if name == "load_run":
        from cmaml_pl.assembly import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
