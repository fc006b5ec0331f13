"""Parses `key=value` strings, which come from the command line or from a sweep agent."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cmaml_pl.errors import UserError


def parse_overrides(overrides: Sequence[str]) -> DictConfig:
    """The overrides as a tree of keys. Values are read as YAML.

    The value None is read as null, because a W&B sweep agent writes None.

    Raises:
        UserError: a string is not of the form key=value; the message names it.
    """
    items = [f"{item.removesuffix('None')}null" if item.endswith("=None") else item for item in overrides]
    for item in items:
        key, equals, _ = item.partition("=")
        if not equals or not key:
            raise UserError(f"{item!r} is not an override: write key=value, e.g. train.meta_iterations=50.")
        try:
            OmegaConf.from_dotlist([item])
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"The override {item!r} cannot be read: {str(error).splitlines()[0]}.") from None
    return OmegaConf.from_dotlist(items)


def find_value(tree: DictConfig, key: str) -> Any:
    """The value of the dotted `key` in a tree of keys; None if the tree does not set it.

    Raises:
        UserError: a part of the key before its last dot is not a section.
    """
    try:
        return OmegaConf.select(tree, key)
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be read: {str(error).splitlines()[0]}.") from None
