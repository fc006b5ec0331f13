"""The pages quote the same rows of docs/performance.md."""

import re

import pytest
from tests.docs.reading import ROOT, read


def rows():
    """Cells of the rows of the two tables that compare the engines with safety_gymnasium's vector environment."""
    lines = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in read("docs/performance.md").splitlines()
    ]
    return [cells for cells in lines if len(cells) >= 9 and cells[0] not in ("id", "---")]


def ratio(cells):
    """The engine's speed over that of the vector environment as it is: behind that environment's column."""
    return float(cells[5 if cells[1] in ("fast", "exact") else 4].split()[0])


@pytest.mark.parametrize("page", ["README.md", "docs/engine.md", "engine/README.md"])
def test_speeds_are_those_of_the_tables(page):
    found = [ratio(cells) for cells in rows()]
    assert len(found) > 10
    text = " ".join((ROOT / page).read_text().split())
    quoted = re.search(r"([\d.]+) to ([\d.]+) times as fast", text)
    assert quoted
    assert [float(number) for number in quoted.groups()] == [min(found), max(found)]
    (point_goal,) = (ratio(cells) for cells in rows() if cells[:2] == ["PointGoal1", "fast"])
    assert re.search(rf"PointGoal1 {point_goal:.0f} times", text)
