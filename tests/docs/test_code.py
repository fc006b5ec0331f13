"""The Python blocks of the pages run, in the order of each page, beside a trained run."""

import contextlib
import io
import re

import pytest
import torch
from tests.docs.reading import PAGES, blocks, read

RUNS = {page: [block for block in blocks(read(page)) if block.language == "python"] for page in PAGES}


@pytest.mark.parametrize("page", [page for page, found in RUNS.items() if any(not block.excuse for block in found)])
def test_python_blocks_run(page, trained, tmp_path, monkeypatch):
    """Every run that a block names is a copy of the same small run."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in RUNS[page]:
        if block.excuse:
            continue
        for folder in set(re.findall(r"runs/\w+/\w+", block.code)):
            (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder).symlink_to(trained.path)
        with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
            exec(compile(block.code, page, "exec"), names)


def test_blocks_that_are_files_are_equal_to_them():
    found = {}
    for page in PAGES:
        for block in blocks(read(page)):
            name = re.match(r"it is (\S+\.\w+),", block.excuse)
            if name:
                found[name[1]] = block.code
    assert {"examples/own_robot/drone.py", "examples/own_robot/drone.yaml"} <= found.keys()
    for name, code in found.items():
        assert code == read(name), f"a page shows {name} as it was"


def test_the_readmes_and_the_tutorials_examples_are_run():
    assert [block.excuse for page in ("README.md", "docs/tutorial.md") for block in RUNS[page]] == ["", ""]
