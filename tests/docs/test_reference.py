"""The reference of classes has what the registries and the package of environments offer."""

import re

import pytest
from tests.docs.reading import DOCS, read
from website.classes import on_page_markdown

from cmaml_pl import envs
from cmaml_pl.configuration.registry import REGISTRIES
from cmaml_pl.imports import import_object

KINDS = {kind for registry in REGISTRIES.values() for kind in registry.own.values()}


@pytest.fixture(scope="module")
def shown():
    """The paths of what is shown, of all pages together."""
    pages = [on_page_markdown(read(page), page=None, config=None, files=None) for page in DOCS if "/reference/" in page]
    return re.findall(r"^::: (\S+)$", "\n".join(pages), flags=re.MULTILINE)


def test_it_shows_every_class_of_the_registries_and_their_interfaces(shown):
    paths = {f"{kind.__module__}.{kind.__qualname__}" for kind in KINDS | {one.kind for one in REGISTRIES.values()}}
    assert len(paths) > 30
    assert not paths - set(shown)


def test_it_shows_every_public_name_of_the_environments(shown):
    assert {f"cmaml_pl.envs.{name}" for name in envs.MODULES} <= set(shown)


def test_nothing_is_shown_twice_and_everything_exists(shown):
    assert len(shown) == len(set(shown))
    for path in shown:
        module, _, name = path.rpartition(".")
        import_object("the reference", f"{module}:{name}")
