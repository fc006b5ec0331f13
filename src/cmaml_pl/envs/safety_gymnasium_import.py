"""Imports safety_gymnasium 1.0.0 unchanged, where its own import statement would fail, warn or make resets slow."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from cmaml_pl.errors import UserError

_INSTALL_HINT = (
    "install it with `pip install --no-deps safety-gymnasium==1.0.0` beside gymnasium 0.29, gymnasium-robotics < 1.3, "
    "mujoco, pygame, xmltodict, pyyaml and imageio (the versions that it pins have no builds for current Pythons)"
)
# Packages behind the import that print a notice from farama_notifications about versions they may only be used at.
_NOTIFIED_PACKAGES = ("gymnasium", "gymnasium_robotics", "pettingzoo")


def import_safety_gymnasium() -> ModuleType:
    """Import safety_gymnasium on Python >= 3.11, silently, and make its resets cheap.

    No file of the package is changed. What stays replaced afterwards is how `safety_gymnasium.world` reads YAML and
    writes XML, see `_cheapen_resets`.

    Raises:
        UserError: safety_gymnasium is not installed, or not beside versions that it can be imported with.
    """
    try:
        with _array_defaults_in_dataclasses(), _without_farama_notices():
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
    """Let class bodies that run inside give a dataclass field a NumPy array as its default.

    Python 3.11 refuses unhashable defaults. Giving every instance its own copy of the array keeps the meaning that
    the package's authors relied on and repairs what the refusal guards against.
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
def _without_farama_notices() -> Iterator[None]:
    """Hide the notices that gymnasium's plug-ins print on stderr about robot environments that nobody here uses."""
    try:
        from farama_notifications import notifications
    except ImportError:  # then they print nothing either
        yield
        return
    hidden = {name: notifications.pop(name) for name in _NOTIFIED_PACKAGES if name in notifications}
    try:
        yield
    finally:
        notifications.update(hidden)


def _release_importing_frames() -> None:
    """Let go of the call stack that gymnasium keeps from the time of its import.

    It stores the exception of a failed import, whose traceback holds on to every caller's variables for good: an
    environment whose constructor imports the package would never be collected, nor its worker processes end.
    """
    error = getattr(importlib.import_module("gymnasium.envs.mujoco.mujoco_env"), "MUJOCO_PY_IMPORT_ERROR", None)
    if error is not None:
        error.__traceback__ = None


def _cheapen_resets(world: Any) -> None:
    """Let `World.build` of the module `world` compile its model without the skybox, and read YAML with libyaml.

    Every reset compiles the model anew. Decoding the sky's six images is nearly all of the 0.3 s that this takes, and
    PyYAML's scanner in Python most of what is left. The texture is only ever seen by a camera, and both scanners read
    the same values: observations, rewards and costs are the same to the bit.
    """
    if not isinstance(world.xmltodict, ModuleType):
        return  # done by an earlier import
    xmltodict, yaml = world.xmltodict, world.yaml
    world.xmltodict = SimpleNamespace(parse=xmltodict.parse, unparse=_without_skybox(xmltodict.unparse))
    world.yaml = SimpleNamespace(load=yaml.load, FullLoader=getattr(yaml, "CFullLoader", yaml.FullLoader))


def _without_skybox(unparse: Callable[..., str]) -> Callable[..., str]:
    def unparse_without_skybox(xml: dict[str, Any], *args: Any, **kwargs: Any) -> str:
        """Written without sky; the dictionary itself belongs to the World and stays as it is."""
        asset = xml["mujoco"]["asset"]
        textures = [texture for texture in asset["texture"] if texture.get("@type") != "skybox"]
        return unparse({"mujoco": {**xml["mujoco"], "asset": {**asset, "texture": textures}}}, *args, **kwargs)

    return unparse_without_skybox
