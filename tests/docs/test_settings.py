"""The reference of the configuration has every key, as the dataclasses define it."""

import dataclasses
import re

import pytest
from omegaconf import OmegaConf
from tests.docs.reading import read
from website.settings import MARK, common, keys_of, on_page_markdown, reference

from cmaml_pl.bounds import bounded
from cmaml_pl.configuration.registry import REGISTRIES
from cmaml_pl.configuration.schema import Config

CLASSES = [(section, name) for section, registry in REGISTRIES.items() for name in registry.own]


def leaves(settings, prefix=""):
    """Key -> value, of a dataclass and of those in it."""
    found = {}
    for name, value in vars(settings).items():
        nested = dataclasses.is_dataclass(value)
        found |= leaves(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def rows(part):
    """Key -> the other cells of its row."""
    found = re.findall(r"^\| `(\S+)` \| (.+) \|$", part, flags=re.MULTILINE)
    return {key: [cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for key, row in found}


@pytest.fixture(scope="module")
def parts():
    """Heading -> the rows below it."""
    pieces = re.split(r"^#{2,3} (.+)$", reference(), flags=re.MULTILINE)
    return {heading: rows(text) for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def test_the_page_is_filled_by_the_hook():
    page = on_page_markdown(read("docs/reference/configuration.md"), page=None, config=None, files=None)
    assert MARK not in page
    assert "| `train.meta_iterations` | `int` | `100` | at least 1 | in total" in page


@pytest.mark.parametrize(("section", "name"), CLASSES)
def test_every_key_of_every_class_is_there_with_its_default(parts, section, name):
    registry = REGISTRIES[section]
    shown = parts[section] | parts[f"{registry.key}={name}"]
    wanted = leaves(registry.own[name](), f"{section}.")
    del wanted[registry.key]
    assert {key: OmegaConf.create(f"x: {cells[1].strip('`')}").x for key, cells in shown.items()} == wanted


def test_every_other_key_is_there_with_its_default(parts):
    shown = {key: cells for heading, part in parts.items() if heading not in REGISTRIES for key, cells in part.items()}
    wanted = {key: value for key, value in leaves(Config()).items() if key.partition(".")[0] not in REGISTRIES}
    for key, value in wanted.items():
        assert OmegaConf.create(f"x: {shown[key][1].strip('`')}").x == value, key


def test_every_key_has_a_type_a_default_and_a_meaning(parts):
    for heading, part in parts.items():
        for key, (kind, default, _, meaning) in part.items():
            assert "``" not in (kind, default), key
            assert meaning, f"{heading}: say in a comment, or under Attributes, what {key} is"


@dataclasses.dataclass(frozen=True)
class Base:
    """Something.

    Attributes:
        first: what it is,
            in two lines.
        second: | with a bar.
    """

    first: float = bounded(1.0, above=0, high=2)
    second: str = bounded("a", choices=("a", "b"))  # and a remark
    # above it
    # in two lines
    third: list[int] = bounded([1, 2], low=1)
    fourth: int | None = None  # none


@dataclasses.dataclass(frozen=True)
class Changed(Base):
    """Something else."""

    second: str = bounded("b", choices=("a", "b"))  # (somebody 2020)


def test_keys_are_read_from_docstrings_comments_and_bounds():
    keys = {name: dataclasses.astuple(key) for name, key in keys_of(Base()).items()}
    assert keys == {
        "first": ("float", "1.0", "above 0, at most 2", "what it is, in two lines."),
        "second": ("str", "a", "`a`, `b`", "| with a bar. and a remark"),
        "third": ("list[int]", "[1, 2]", "at least 1", "above it in two lines"),
        "fourth": ("int or null", "null", "", "none"),
    }
    changed = keys_of(Changed())
    assert dataclasses.astuple(changed["second"]) == ("str", "b", "`a`, `b`", "| with a bar. (somebody 2020)")
    assert list(common([keys_of(Base()), changed], without="first")) == ["third", "fourth"]
