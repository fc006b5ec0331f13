"""Imports safety_gymnasium 1.0.0 unchanged; a plain import would fail, print notices, or give slow resets."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from ..errors import UserError

_INSTALL_HINT = (
    "install it with `pip install --no-deps safety-gymnasium==1.0.0` beside gymnasium 0.29, gymnasium-robotics < 1.3, "
    "mujoco, pygame, xmltodict, pyyaml and imageio (the versions that it pins have no builds for current Pythons)"
)
# Packages that, when they are imported, print a notice of farama_notifications about the versions to be used.
_NOTIFIED_PACKAGES = ("gymnasium", "gymnasium_robotics", "pettingzoo")


def import_safety_gymnasium() -> ModuleType:
    """The package safety_gymnasium, imported on Python >= 3.11 without printed notices, and with cheap resets.

    No file of the package is changed. Only the way in which `safety_gymnasium.world` reads YAML and writes XML stays
    replaced afterwards, see `_cheapen_resets`.

    Raises:
        UserError: safety_gymnasium is not installed, or the installed versions of other packages do not fit.
    """
    try:
        with _array_defaults_in_dataclasses(), without_farama_notices():
            package = importlib.import_module("safety_gymnasium")
            world = importlib.import_module("safety_gymnasium.world")
    except ModuleNotFoundError as error:
        if error.name == "safety_gymnasium":
            raise UserError(f"Safety-Gymnasium is not installed: {_INSTALL_HINT}.") from None
        raise UserError(f"Safety-Gymnasium cannot be imported ({error}): {_INSTALL_HINT}.") from error
    except ImportError as error:
        raise UserError(f"Safety-Gymnasium cannot be imported ({error}): {_INSTALL_HINT}.") from error
    _cheapen_resets(world)
    _release_importing_frames()
    return package


@contextmanager
def _array_defaults_in_dataclasses() -> Iterator[None]:
    """Within the block, allow a NumPy array as the default of a dataclass field.

    Python 3.11 refuses unhashable defaults, because all instances would share them. Here every instance gets its own
    copy of the array. This is what the package's authors expected, and nothing is shared.
    """
    original = dataclasses.dataclass

    def tolerant_dataclass(cls: type | None = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda decorated: tolerant_dataclass(decorated, **options)
        for name in inspect.get_annotations(cls):
            default = cls.__dict__.get(name)
            if isinstance(default, np.ndarray):
                setattr(cls, name, dataclasses.field(default_factory=default.copy))
        return original(cls, **options)

    dataclasses.dataclass = tolerant_dataclass
    try:
        yield
    finally:
        dataclasses.dataclass = original


@contextmanager
def without_farama_notices() -> Iterator[None]:
    """Hide the notices that gymnasium's plug-ins print on stderr about robot environments that are not used here."""
    try:
        from farama_notifications import notifications
    except ImportError:  # without this package there are no notices
        yield
        return
    hidden = {name: notifications.pop(name) for name in _NOTIFIED_PACKAGES if name in notifications}
    try:
        yield
    finally:
        notifications.update(hidden)


def _release_importing_frames() -> None:
    """Release the call stack that gymnasium keeps from the time of its import.

    Gymnasium stores the exception of a failed import, and the exception's traceback keeps the variables of every caller
    alive for ever. If the constructor of an environment imports the package, the environment would therefore never be
    garbage collected, and its worker processes would never end.
    """
    error = getattr(importlib.import_module("gymnasium.envs.mujoco.mujoco_env"), "MUJOCO_PY_IMPORT_ERROR", None)
    if error is not None:
        error.__traceback__ = None


def _cheapen_resets(world: Any) -> None:
    """Let `World.build` of the module `world` compile its model without the skybox, and read YAML with libyaml.

    Every reset compiles the model anew, which takes 0.3 s. Most of this time goes to decoding the six images of the
    sky, and most of the rest to PyYAML's scanner, which is written in Python. Only a camera sees the sky, and both
    scanners read the same values, so that observations, rewards and costs are equal to the bit.
    """
    if not isinstance(world.xmltodict, ModuleType):
        return  # an earlier import has already replaced it
    xmltodict, yaml = world.xmltodict, world.yaml
    world.xmltodict = SimpleNamespace(parse=xmltodict.parse, unparse=_without_skybox(xmltodict.unparse))
    world.yaml = SimpleNamespace(load=yaml.load, FullLoader=getattr(yaml, "CFullLoader", yaml.FullLoader))


def _without_skybox(unparse: Callable[..., str]) -> Callable[..., str]:
    def unparse_without_skybox(xml: dict[str, Any], *args: Any, **kwargs: Any) -> str:
        """The XML without the sky; the dictionary `xml` belongs to the World and is not changed."""
        asset = xml["mujoco"]["asset"]
        textures = [texture for texture in asset["texture"] if texture.get("@type") != "skybox"]
        return unparse({"mujoco": {**xml["mujoco"], "asset": {**asset, "texture": textures}}}, *args, **kwargs)

    return unparse_without_skybox
