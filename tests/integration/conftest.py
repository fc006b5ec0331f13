import os
import shutil
from pathlib import Path

import pytest
from tests.commands import cmaml
from tests.integration.runs import DISABLED, TINY

from cmaml_pl.runs.folder import RunFolder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of two meta-iterations, to be left as it is."""
    start = tmp_path_factory.mktemp("trained")
    cmaml("train", "exp=nav2d", "run.id=a", *TINY, *DISABLED, cwd=start)
    return RunFolder(start / "runs/nav2d/a")


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, to be spoiled."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "runs/nav2d/a")))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The environment of a job with one task, and an `scontrol` that records how it is called."""
    record, program = tmp_path / "scontrol.txt", tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{record}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1"}
    for name, value in {**job, "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NODELIST": "localhost"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    return record
