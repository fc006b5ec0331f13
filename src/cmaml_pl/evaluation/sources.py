"""Which version of the code a measurement was made by."""

import hashlib
from functools import cache
from pathlib import Path

from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.schema import Config
from cmaml_pl.imports import module_file

PACKAGE = Path(__file__).resolve().parents[1]

WITHOUT_INFLUENCE = (
    *("__main__.py", "cli.py", "export.py", "figures/", "studies/", "tracking/"),
    *(f"evaluation/{name}.py" for name in ("arms", "figures", "labels", "parts", "report", "statistics", "tables")),
    *(f"evaluation/{name}.py" for name in ("video", "yardstick")),
)
"""Files and folders that only ask for measurements or show them: all others can move the numbers."""

ELSEWHERE = ("quiet", "run.", "logger.", "trainer.")
"""Beginnings of keys that say nothing of the numbers of a measurement."""


def own_sources(config: Config) -> dict[str, str]:
    """Key -> hash of the file of the user's module that it names; keys that the numbers do not depend on left out."""
    return {
        key: hashlib.sha256(path.read_bytes()).hexdigest()
        for key, value in flatten(config).items()
        if not key.startswith(ELSEWHERE) and isinstance(value, str) and (path := module_file(value))
    }


@cache
def sources_digest(package: Path = PACKAGE) -> str:
    """A hash of the sources that a meta-test's numbers can depend on, their names included."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith(WITHOUT_INFLUENCE):
            content = path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
