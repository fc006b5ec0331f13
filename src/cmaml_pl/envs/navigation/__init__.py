"""The batched navigation engine: many Safety-Gymnasium worlds at once, nearly as fast as their physics alone."""

from typing import TYPE_CHECKING, Any

from .definition import UnsupportedTaskError

if TYPE_CHECKING:
    from .env import NavigationEnv

__all__ = ["NavigationEnv", "UnsupportedTaskError"]


def __getattr__(name: str) -> Any:
    """Import the TorchRL environment only when it is used: the worlds in this package need no PyTorch."""
    if name == "NavigationEnv":
        from .env import NavigationEnv

        return NavigationEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
