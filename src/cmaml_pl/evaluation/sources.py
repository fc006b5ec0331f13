"""Which version of the code a measurement was made by."""

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

WITHOUT_INFLUENCE = (
    *("__main__.py", "cli.py", "export.py", "figures/", "studies/", "tracking/"),
    *(f"evaluation/{name}.py" for name in ("arms", "figures", "labels", "parts", "report", "statistics", "tables")),
    *(f"evaluation/{name}.py" for name in ("video", "yardstick")),
)
"""Files and folders that only ask for measurements or show them: all others can move the numbers."""


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
