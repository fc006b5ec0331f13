"""The folder of a run, and who may write into it."""

import pytest

from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.errors import UserError
from cmaml_pl.runs.folder import RunFolder

FIRST, SECOND = (load_experiment("nav2d", ["run.id=a", f"seed={seed}"]) for seed in (1, 2))


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has ended before it computed anything."""
    found = RunFolder(tmp_path / "nav2d/a")
    with found.claim(FIRST):
        (found.path / "wandb").mkdir()
    return found


def test_a_start_that_failed_leaves_its_id_free(folder):
    with folder.claim(SECOND):
        assert "seed: 2" in folder.config.read_text()


@pytest.mark.parametrize("kept", ["metrics.csv", "checkpoints/last.ckpt", "checkpoints/previous.ckpt"])
def test_what_was_computed_is_not_overwritten(kept, folder):
    (folder.path / kept).parent.mkdir(exist_ok=True)
    (folder.path / kept).touch()
    with pytest.raises(UserError, match="is not overwritten"), folder.claim(SECOND):
        pass
    assert "seed: 1" in folder.config.read_text()


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    with pytest.raises(UserError, match="is not overwritten"), RunFolder(tmp_path).claim(FIRST):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_alive_keeps_its_folder(folder):
    with folder.claim(FIRST), pytest.raises(UserError, match="Another process is training"), folder.claim(SECOND):
        pass
    assert "seed: 1" in folder.config.read_text()
