"""What the callbacks ask of the module that they are attached to."""

from lightning.pytorch import Callback, LightningModule

from cmaml_pl.module import CMAML


def require_cmaml(callback: Callback, module: LightningModule) -> CMAML:
    """The module, if it is one that `callback` can serve.

    Raises:
        TypeError: it is another kind of LightningModule.
    """
    if not isinstance(module, CMAML):
        raise TypeError(f"{type(callback).__name__} serves a cmaml_pl.module.CMAML, not a {type(module).__name__}")
    return module
