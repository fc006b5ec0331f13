"""What docs/operations.md says was tried, is tried."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
MANUAL = TESTS.parent / "docs/operations.md"


def test_every_fault_that_the_manual_names_has_its_test():
    section = MANUAL.read_text().split("## What was tried")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]  # after the heading
    assert len(rows) >= 30
    named = [re.fullmatch(r"\|.+\|.+\| `(\S+\.py)::(test_\w+)` \|", row) for row in rows]
    assert all(named), [row for row, found in zip(rows, named, strict=True) if not found]
    for found in filter(None, named):
        file, name = found.groups()
        functions = {
            node.name for node in ast.parse((TESTS / file).read_text()).body if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"docs/operations.md names {file}::{name}, which does not exist"
