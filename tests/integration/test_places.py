"""Run folders that cannot be written to, are full, or are another process's: one message, and nothing is lost."""

import os
import sys
from pathlib import Path

import pytest
from tests.commands import cmaml, run
from tests.integration.runs import DISABLED, TINY, done

AGAIN = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *TINY, *DISABLED)


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="root, whom no mode stops here")
def test_a_read_only_folder_is_one_message(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o555)
    command = ["train", "exp=nav2d", "run.dir=closed", *TINY, *DISABLED]
    printed = run("tests.obeying_modes", *command, cwd=tmp_path, code=2)
    assert "Permission denied" in printed
    assert printed.count("Error:") == 1
    assert not list((tmp_path / "closed").iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("full", ["checkpoints/last.tmp", "metrics.tmp"])
def test_a_full_disk_is_one_message_and_leaves_the_last_good_checkpoint(full, folder, tmp_path):
    before = folder.last_checkpoint.read_bytes()
    (folder.path / full).symlink_to("/dev/full")
    assert "No space left on device" in cmaml(*AGAIN, "train.meta_iterations=3", cwd=tmp_path, code=2)
    assert folder.last_checkpoint.read_bytes() == before
    (folder.path / full).unlink(missing_ok=True)
    cmaml(*AGAIN, "train.meta_iterations=3", cwd=tmp_path)
    assert done(folder) == 3


def test_only_one_process_trains_in_a_folder(folder, tmp_path):
    with folder.lock():
        assert "Another process is training in" in cmaml(*AGAIN, "train.meta_iterations=3", cwd=tmp_path, code=2)
    cmaml(*AGAIN, "train.meta_iterations=3", cwd=tmp_path)


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    command = ["train", "exp=nav2d", "run.dir=file", *TINY, *DISABLED]
    assert "Not a directory" in cmaml(*command, cwd=tmp_path, code=2)
