"""`key=value` strings, as they come from the command line and from a sweep agent."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cmaml_pl.errors import UserError


def parse_overrides(overrides: Sequence[str]) -> DictConfig:
    """The strings as a tree of keys; values are read as YAML, and None as null: a sweep agent writes so.

    Raises:
        UserError: names the string that is no override.
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
    """What a tree of keys gives the dotted `key`, None where it gives nothing.

    Raises:
        UserError: the key leads through something that is no section.
    """
    try:
        return OmegaConf.select(tree, key)
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be read: {str(error).splitlines()[0]}.") from None
