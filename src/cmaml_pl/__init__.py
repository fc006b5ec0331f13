"""C-MAML: constrained model-agnostic meta reinforcement learning, as a modular trainer."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmaml_pl.assembly import load_module as load_module

__version__ = version("cmaml_pl")


def __getattr__(name: str) -> Any:
    """`load_module`, imported when it is asked for: Lightning and TorchRL take their seconds."""
    if name == "load_module":
        from cmaml_pl.assembly import load_module

        return load_module
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
