"""The reference of the configuration: every key with its type, default, allowed values and meaning.

All of it is read from the dataclasses that define the keys. The meaning of a key is its entry under "Attributes" in the
docstring, and the comment beside or above its default. As a hook of MkDocs (mkdocs.yml names this file) it fills the
page reference/configuration.md. It needs no MkDocs itself.
"""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from cmaml_pl.configuration.registry import REGISTRIES, Registry
from cmaml_pl.configuration.schema import Config

MARK = "<!-- every key -->"


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of the configuration, in words.

    Attributes:
        type: of its values.
        default: as YAML.
        allowed: its bounds or choices; empty if there are none.
        meaning: what the source says of it.
    """

    type: str
    default: str
    allowed: str
    meaning: str


def keys_of(settings: Any) -> dict[str, Key]:
    """Name -> key, for all fields of an instance of a dataclass; those of a section in it are `section.name`."""
    found: dict[str, Key] = {}
    explained = meanings(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            found |= {f"{field.name}.{name}": key for name, key in keys_of(value).items()}
        else:
            found[field.name] = Key(_type(field.type), _yaml(value), _allowed(field.metadata), explained[field.name])
    return found


def meanings(settings: type[Any]) -> dict[str, str]:
    """Field -> its meaning; the entry of the nearest class counts, and the comment of the nearest class."""
    entries: dict[str, str] = {}
    remarks: dict[str, str] = {}
    for kind in filter(dataclasses.is_dataclass, reversed(settings.__mro__)):
        own = vars(kind).get("__annotations__", {})
        entries |= {name: text for name, text in _attributes(kind.__doc__ or "").items() if name in own}
        said = _comments(inspect.getsource(kind))
        remarks |= {name: said.get(name, "") for name in own}
    names = [field.name for field in dataclasses.fields(settings)]
    return {name: f"{entries.get(name, '')} {remarks.get(name, '')}".strip() for name in names}


def _attributes(docstring: str) -> dict[str, str]:
    """Name -> text of a Google-style section "Attributes"."""
    lines = inspect.cleandoc(docstring).partition("\nAttributes:\n")[2].splitlines()
    section = textwrap.dedent("\n".join(lines))
    entries = re.findall(r"^(\w+): (.*(?:\n[ ]+.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _comments(source: str) -> dict[str, str]:
    """Name -> the comments directly above a class's annotated field, and beside it."""
    source = textwrap.dedent(source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    (definition,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in comments and not comments[first - 1].line[: comments[first - 1].start[1]].strip():
                first -= 1
            lines = range(first, (node.end_lineno or node.lineno) + 1)
            texts = [comments[line].string.lstrip("# ") for line in lines if line in comments]
            found[node.target.id] = " ".join(texts)
    return found


def _type(annotation: Any) -> str:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return name.replace("typing.", "").replace(" | None", " or null")


def _yaml(value: Any) -> str:
    text = OmegaConf.to_yaml(OmegaConf.create({"value": value})).removeprefix("value:").strip()
    return f"[{', '.join(map(_yaml, value))}]" if isinstance(value, list) else text


def _allowed(limits: Mapping[str, Any]) -> str:
    if limits.get("choices"):
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    bounds = {"at least": limits.get("low"), "above": limits.get("above"), "at most": limits.get("high")}
    return ", ".join(f"{word} {value}" for word, value in bounds.items() if value is not None)


def table(prefix: str, keys: Mapping[str, Key]) -> Iterator[str]:
    """The lines of a table of keys."""
    yield "| key | type | default | allowed | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for name, key in keys.items():
        cells = (f"`{prefix}{name}`", f"`{key.type}`", f"`{key.default}`", key.allowed, _escape(key.meaning))
        yield f"| {' | '.join(cells)} |"
    yield ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _summary(kind: type[Any]) -> str:
    """The first paragraph of a docstring, for a page."""
    return _escape(" ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split()))


def reference() -> str:
    """The page's tables: a heading for each section, and within `tasks`, `inner` and `outer` for each class."""
    config = Config()
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    plain = {name: value for name, value in sections.items() if not dataclasses.is_dataclass(value)}
    top = {name: key for name, key in keys_of(config).items() if name in plain}
    lines = ["## General keys", "", *table("", top)]
    for section, value in sections.items():
        if section in plain:
            continue
        lines += [f"## {section}", ""]
        if section in REGISTRIES:
            lines += _classes(section, REGISTRIES[section])
        else:
            lines += [_summary(type(value)), "", *table(f"{section}.", keys_of(value))]
    return "\n".join(lines)


def _classes(section: str, registry: Registry) -> Iterator[str]:
    """What all classes of a registry share, and then what each adds or changes."""
    choice = registry.selector
    keys = {name: keys_of(kind()) for name, kind in registry.own.items()}
    shared = common(keys.values(), without=choice)
    yield f"`{registry.key}` chooses one of {', '.join(f'`{name}`' for name in keys)}. These keys are the same in all:"
    yield ""
    yield from table(f"{section}.", shared)
    for name, own in keys.items():
        rest = {key: row for key, row in own.items() if key not in shared and key != choice}
        yield f"### {registry.key}={name}"
        yield ""
        yield _summary(registry.own[name])
        yield ""
        yield from table(f"{section}.", rest) if rest else ["It has no other keys.", ""]


def common(classes: Iterable[Mapping[str, Key]], *, without: str) -> dict[str, Key]:
    """The keys that all classes have in the same way."""
    first, *others = classes
    return {
        name: key for name, key in first.items() if name != without and all(other.get(name) == key for other in others)
    }


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs for each page."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown
