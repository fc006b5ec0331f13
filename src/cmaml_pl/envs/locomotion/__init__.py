"""Safety-Gymnasium's velocity tasks on the batched engine: legged and swimming robots with a limit on their speed."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .env import LocomotionEnv

__all__ = ["LocomotionEnv"]


def __getattr__(name: str) -> Any:
    """Import the TorchRL environment only when it is used: the worlds in this package need no PyTorch."""
    if name == "LocomotionEnv":
        from .env import LocomotionEnv

        return LocomotionEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
