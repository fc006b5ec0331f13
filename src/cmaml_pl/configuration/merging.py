"""Merges layers of keys and values into a checked configuration."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cmaml_pl.bounds import check_bounds
from cmaml_pl.configuration.checks import check_together
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.configuration.registry import REGISTRIES
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError

RENAMED = {
    f"inner.{name}": f"inner.trust_region.{name}"
    for name in ("max_kl", "cg_iterations", "cg_damping", "fisher_every", "line_search_ratio", "line_search_tries")
}
"""Old key -> new key. Configurations stored by earlier versions, and commands, may still use the old keys."""


NEWER: Mapping[str, Any] = {
    "train.distinct_tasks": None,
    "tasks.observe_task": False,
    "tasks.conflict": None,
    "policy.actor": "gaussian",
    "policy.context": 0,
    "critic.samples": 131_072,
    "safety.critic": True,
    "safety.margin": 1.0,
    "inner.trust_region.parameters": "all",
    "inner.margin": 1.0,
    "inner.cost_limit_discount": 1.0,
    "outer.clip": None,
    "outer.every_step": False,
    "outer.average": 1,
    "outer.radius_lr": 0.0,
    "deployment.method": "adapted",
    "deployment.checkpoint": "last",
    "exploration.std": 0.0,
    "exploration.decay": 0.5,
    "exploration.temperature": 0.1,
    "exploration.informed": 0.0,
}
"""Keys that earlier versions did not have, and what they did: what a checkpoint of theirs says of them."""

NEWER_SECTIONS = ("deployment", "exploration")
"""Sections that earlier versions did not have."""

GONE: Mapping[str, Any] = {"critic.halves": False, "exploration.lr": 2.0}
"""Keys that earlier versions had, and the value at which they did nothing: with it they are ignored.

`exploration.lr` did nothing where nothing explored."""


def merge_layers(layers: Sequence[DictConfig], overrides: Sequence[str] = ()) -> Config:
    """Merge layers and overrides into a configuration, and check it.

    Later layers override earlier ones, and overrides override all layers.

    Raises:
        UserError: a key is unknown, has a wrong type or is out of range; the message names it.
    """
    changes = DictConfig({})
    try:
        for layer in [*layers, parse_overrides(overrides)]:
            _rename(layer)
            _drop_keys_of_other_methods(changes, layer)
            changes.merge_with(layer)
    except OmegaConfBaseException as error:
        raise UserError(f"The overrides {' '.join(overrides)} do not fit: {str(error).splitlines()[0]}.") from None
    schema = _schema_for(changes)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, changes))
    except OmegaConfBaseException as error:
        raise _explain(error, schema) from None
    assert isinstance(config, Config)
    check_bounds(config)
    check_together(config)
    return config


def flatten(tree: Config | dict[str, Any]) -> dict[str, Any]:
    """Key -> value of a configuration or a tree of keys, with dotted keys as on the command line."""

    def walk(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
        if dataclasses.is_dataclass(node):
            node = {item.name: getattr(node, item.name) for item in dataclasses.fields(node)}
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            yield prefix, node

    return dict(walk("", tree))


def rename_flat(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A flattened configuration of an earlier version, under the names of this one; see `RENAMED`, `NEWER`, `GONE`."""
    kept = {RENAMED.get(key, key): value for key, value in stored.items() if (key, value) not in GONE.items()}
    return ({**NEWER} if stored else {}) | kept


def _rename(layer: DictConfig) -> None:
    """Rename keys of earlier versions to those of this version, in place; see `RENAMED`, `GONE`."""
    for old in (*RENAMED, *GONE):
        section, _, name = old.rpartition(".")
        values = layer.get(section)
        if not isinstance(values, DictConfig) or name not in values:
            continue
        if old in RENAMED:
            OmegaConf.update(layer, RENAMED[old], values.pop(name))
        elif old == "exploration.lr" and values.get("std", 0.0) != 0:
            raise UserError(
                "exploration.lr is from an earlier version, which moved the context in another way: its runs that "
                "explore cannot go on. Train anew, with exploration.temperature."
            )
        elif values[name] == GONE[old]:
            values.pop(name)


def _schema_for(changes: DictConfig) -> DictConfig:
    """Every key that `changes` may set, with its type and default.

    The keys of the sections in REGISTRIES are those of the family and of the methods that `changes` names.
    """
    schema = writable(OmegaConf.structured(Config))
    for section, registry in REGISTRIES.items():
        values, selector = changes.get(section), registry.selector
        given = isinstance(values, DictConfig) and selector in values
        name = find_value(changes if given else schema, registry.key)
        if name not in registry:
            known = ", ".join(registry)
            raise UserError(f"{registry.key} is {name!r}, but must be one of {known}, or your own MODULE:CLASS.")
        try:
            schema[section] = writable(OmegaConf.structured(registry[name]))
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{registry.key} is {name!r}, whose fields cannot be keys: {reason}") from None
    _check_sections(schema, changes)
    return schema


def _check_sections(schema: DictConfig, changes: DictConfig, prefix: str = "") -> None:
    """Raise a UserError if a section is given a value; the message names the first such section."""
    for key in [str(key) for key in changes if key in schema]:
        section, given = schema._get_node(key), changes._get_node(key)
        if isinstance(section, DictConfig):
            if not isinstance(given, DictConfig):
                raise UserError(f"{prefix}{key} is a section, not a value: write {prefix}{key}.NAME=value.")
            _check_sections(section, given, f"{prefix}{key}.")


def _drop_keys_of_other_methods(written: DictConfig, layer: DictConfig) -> None:
    """If `layer` chooses another method or family, remove from `written` the keys that only the previous one has.

    Without this, `exp=nav2d inner.method=cpo` would fail, because nav2d.yaml sets `inner.multiplier_kp`, which CPO does
    not have. A key that neither of the two has is kept, so that a typo in a file is still an error.
    """
    for section, registry in REGISTRIES.items():
        values, chosen, selector = written.get(section), find_value(layer, registry.key), registry.selector
        if not isinstance(values, DictConfig):
            continue
        name = values.get(selector, getattr(getattr(Config(), section), selector))
        if name in registry and chosen in registry:
            _drop_foreign(values, registry[name], registry[chosen])


def _drop_foreign(values: DictConfig, old: Any, new: Any) -> None:
    """Remove from `values` the keys that `old` has and `new` has not, in the sections that both have as well."""
    kept = _field_types(new)
    for key, section in _field_types(old).items():
        value, other = values.get(key), kept.get(key)
        if other is None:
            values.pop(key, None)
        elif isinstance(value, DictConfig) and dataclasses.is_dataclass(section) and dataclasses.is_dataclass(other):
            _drop_foreign(value, section, other)


def _field_types(section: Any) -> dict[str, Any]:
    types = get_type_hints(section)
    return {item.name: types[item.name] for item in dataclasses.fields(section)}


def writable(node: DictConfig) -> DictConfig:
    """`node`, made writable at every depth: OmegaConf makes frozen dataclasses read-only, but a schema takes values."""
    OmegaConf.set_readonly(node, False)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            writable(child)
    return node


def _explain(error: OmegaConfBaseException, schema: DictConfig) -> UserError:
    """Turn OmegaConf's error into a UserError that names the key and, if possible, suggests the right one."""
    key = str(error.full_key or error.key)
    if error.msg and "not in" in str(error.msg).splitlines()[0]:
        known = list(_keys(schema))
        close = difflib.get_close_matches(key, [*known, *RENAMED], n=1, cutoff=0.5)
        if not close:  # perhaps the name is right, but in the wrong section
            leaf = key.rsplit(".", 1)[-1]
            close = [name for name in known if name.rsplit(".", 1)[-1] == leaf][:1]
        close = [RENAMED.get(name, name) for name in close]
        hint = f" Did you mean {close[0]}?" if close else f" The sections are {', '.join(schema)}."
        return UserError(f"There is no key {key}.{hint}")
    reason = str(error.msg).splitlines()[0]
    return UserError(f"{key} has a wrong value: {reason}.")


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        name = f"{prefix}{key!s}"
        yield name
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _keys(child, f"{name}.")
