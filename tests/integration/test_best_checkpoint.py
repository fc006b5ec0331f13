"""checkpoints/best.ckpt, which is kept beside the last one, and can be deployed in its place."""

import shutil

import pytest
import torch
from tests.commands import cmaml, refused
from tests.integration.runs import DISABLED, TINY, assert_same_parameters, final_state, lines

from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder

EACH = ["train", "exp=nav2d", *TINY, *DISABLED, "outer.average=1", "train.validate_every=1"]
SEED = "seed=6"
"""With it neither the first nor the last of four validations is the best one."""


def scores(folder):
    return [float(row["val/post/penalised_return"]) for row in lines(folder.metrics)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    cmaml(*EACH, SEED, "run.id=whole", "train.meta_iterations=4", cwd=folder)
    return folder


@pytest.fixture
def whole(trained, tmp_path):
    """A run of four validated meta-iterations."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return RunFolder(tmp_path / "runs/nav2d/whole")


def test_it_is_that_of_the_meta_iteration_with_the_best_validation(whole, tmp_path):
    found, validated = load_checkpoint(whole.best_checkpoint), scores(whole)
    assert 1 < found.iterations < 4
    assert validated.index(max(validated)) + 1 == found.iterations
    cmaml(*EACH, SEED, "run.id=short", f"train.meta_iterations={found.iterations}", cwd=tmp_path)
    for name, value in final_state(tmp_path / "runs/nav2d/short").items():
        assert torch.equal(found.content["state_dict"][name], value), name


def test_the_last_meta_iteration_is_validated_whatever_the_interval(tmp_path):
    cmaml(*EACH, "run.id=odd", "train.validate_every=2", "train.meta_iterations=3", cwd=tmp_path)
    odd = RunFolder(tmp_path / "runs/nav2d/odd")
    assert [bool(row["val/post/return"]) for row in lines(odd.metrics)] == [False, True, True]
    # over all of the three tasks, in batches of two and one
    row = {name: float(cell) for name, cell in lines(odd.metrics)[-1].items() if name.startswith("val/")}
    assert row["val/post/penalised_return"] == pytest.approx(row["val/post/return"] - row["val/post/cost"])  # limit 0


def test_a_run_that_goes_on_in_another_folder_knows_how_good_it_was(whole, tmp_path):
    best = load_checkpoint(whole.best_checkpoint).iterations
    cmaml(*EACH, SEED, "run.id=parts", f"train.meta_iterations={best}", cwd=tmp_path)
    parts = RunFolder(tmp_path / "runs/nav2d/moved")
    (tmp_path / "runs/nav2d/parts").rename(parts.path)
    cmaml("train", f"run.resume={parts.path}", "train.meta_iterations=4", cwd=tmp_path)
    assert_same_parameters(parts, whole)
    assert load_checkpoint(parts.best_checkpoint).iterations == best


def test_a_run_that_was_killed_before_the_copy_was_made_makes_it_when_it_goes_on(whole, tmp_path):
    best = load_checkpoint(whole.best_checkpoint).iterations
    cmaml(*EACH, SEED, "run.id=killed", f"train.meta_iterations={best}", cwd=tmp_path)
    killed = RunFolder(tmp_path / "runs/nav2d/killed")
    expected = killed.best_checkpoint.read_bytes()
    assert expected == killed.last_checkpoint.read_bytes()
    killed.best_checkpoint.write_bytes(b"of an earlier meta-iteration")
    cmaml("train", f"run.resume={killed.path}", "train.meta_iterations=4", cwd=tmp_path)
    assert killed.best_checkpoint.read_bytes() == expected


def test_it_is_deployed_where_that_is_asked_for(whole, tmp_path):
    steps = ("run=runs/nav2d/whole", "steps=1")
    cmaml("evaluate", *steps, "deployment.checkpoint=best", "out=both", cwd=tmp_path)
    rows = lines(tmp_path / "both/evaluation.csv")
    whole.last_checkpoint.write_bytes(whole.best_checkpoint.read_bytes())
    cmaml("evaluate", *steps, "out=best", cwd=tmp_path)

    def measured(rows, arm):
        return [(row["step"], row["task"], row["return"], row["cost"]) for row in rows if row["method"] == arm]

    ours = measured(rows, "fomaml+trpo_lag deployment.checkpoint=best")
    assert ours == measured(lines(tmp_path / "best/evaluation.csv"), "fomaml+trpo_lag") != []
    assert ours != measured(rows, "fomaml+trpo_lag deployment.checkpoint=last") != []


def test_where_there_is_none_the_message_says_so(whole, tmp_path):
    whole.best_checkpoint.unlink()
    message = refused("evaluate", "run=runs/nav2d/whole", "steps=1", "deployment.checkpoint=best", cwd=tmp_path)
    assert "deployment.checkpoint is best, but there is no" in message
    assert "Measure it with deployment.checkpoint=last" in message
