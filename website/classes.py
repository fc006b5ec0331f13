"""The reference of methods, deployments and families: every class of the registry, in its order.

As a hook of MkDocs (mkdocs.yml names this file) it puts directives of mkdocstrings into the pages that have a mark. It
needs no MkDocs itself.
"""

import re
from typing import Any

from cmaml_pl.configuration.registry import REGISTRIES

MARK = re.compile(r"<!-- every class of (\w+) -->")
"""Names a section of the configuration."""


def directives(section: str) -> str:
    """The lines that show the classes of a section's registry."""
    kinds = dict.fromkeys(REGISTRIES[section].own.values())
    return "\n\n".join(f"::: {kind.__module__}.{kind.__qualname__}" for kind in kinds)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs for each page."""
    return MARK.sub(lambda found: directives(found[1]), markdown)
