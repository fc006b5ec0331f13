"""docs/metrics.md lists what a run logs."""

import re

from tests.docs.reading import read
from tests.integration.runs import lines

RANKS = {"throughput/communication_share", "throughput/messages"}
"""Of runs with several processes, see tests/integration/test_ranks.py."""
LEARNED = {"inner/length"}
"""Of runs that learn the lengths of their steps, see tests/integration/test_learned_lengths.py."""


def test_the_page_lists_every_metric_of_a_run(trained):
    rows = re.findall(r"^\| `(\S+)` \| (.+) \|$", read("docs/metrics.md"), flags=re.MULTILINE)
    cells = {name: [cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for name, row in rows}
    assert all(len(row) == 4 and all(row[:3]) for row in cells.values()), "unit, meaning or normal value is missing"
    named = {*cells, *(f"val/{name}" for name, row in cells.items() if row[3] == "yes")}
    assert named - RANKS - LEARNED == set(lines(trained.metrics)[-1]) - {"iteration"}
    assert named >= RANKS | LEARNED
