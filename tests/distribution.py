"""An installed distribution, as pip leaves it."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """Write its metadata into the folder `site`, with its entry points: group -> name -> object."""
    about = site / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, offered in points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in offered.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
