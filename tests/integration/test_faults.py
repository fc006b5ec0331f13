"""Files that are cut, gone or of something else, and helpers that die: one message, and what was computed is kept."""

import multiprocessing
import shutil
import sys
from pathlib import Path

import pytest
import torch
from tests.commands import cmaml, refused
from tests.integration.runs import DISABLED, TINY, assert_same_run, lines

from cmaml_callbacks import LearningCurves
from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.cli import main
from cmaml_pl.configuration import loading
from cmaml_pl.configuration.loading import conf_dir, load_experiment, store
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder

AGAIN = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *TINY, *DISABLED)


def go_on(folder: RunFolder) -> list[str]:
    return ["train", f"run.resume={folder.path}", "train.meta_iterations=3", "quiet=true"]


def all_verbs(folder: RunFolder) -> list[list[str]]:
    return [go_on(folder), ["evaluate", f"run={folder.path}"], ["export", f"ckpt={folder.path}"]]


def cut(path: Path, tenth: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])


def assert_refused(arguments: list[str], message: str, cwd: Path) -> None:
    printed = refused(*arguments, cwd=cwd)
    assert message in printed, f"{arguments}: {printed}"
    assert printed.count("Error:") == 1


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_configuration_is_refused_and_what_was_trained_stays(tenth, folder, tmp_path):
    before = folder.last_checkpoint.read_bytes()
    cut(folder.config, tenth)
    for arguments in all_verbs(folder):
        printed = refused(*arguments, cwd=tmp_path)
        assert "is not as a run has written it" in printed or "is from another configuration" in printed, printed
        assert "config.yaml" in printed
    assert folder.last_checkpoint.read_bytes() == before


def test_a_missing_configuration_is_named(folder, tmp_path):
    folder.config.unlink()
    messages = ["config.yaml does not exist", "it has no config.yaml", "it has no config.yaml"]
    for arguments, message in zip(all_verbs(folder), messages, strict=True):
        assert_refused(arguments, message, tmp_path)


@pytest.mark.parametrize("tenth", range(10))
def test_a_torn_checkpoint_is_skipped_for_the_one_before(tenth, folder, caplog):
    cut(folder.last_checkpoint, tenth)
    newest = folder.newest_good_checkpoint()
    assert newest.path == folder.checkpoints / "previous.ckpt"
    assert newest.iterations == 1
    assert "last.ckpt cannot be read: it is cut off" in caplog.text
    assert "It is skipped" in caplog.text


def test_a_run_goes_on_from_the_checkpoint_before_a_torn_one(folder, trained, tmp_path):
    cut(folder.last_checkpoint, 3)
    assert "It is skipped" in cmaml(*AGAIN, cwd=tmp_path)
    assert_same_run(folder, trained)
    for path in folder.checkpoints.iterdir():
        cut(path, 3)
    assert "No checkpoint in" in cmaml(*AGAIN, cwd=tmp_path, code=2)


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_metrics_csv_keeps_its_whole_lines(tenth, folder):
    whole = read_metrics(folder.metrics)
    cut(folder.metrics, tenth)
    assert read_metrics(folder.metrics) in ([], whole[:1])


def test_a_run_whose_metrics_csv_was_cut_goes_on(folder, trained, caplog):
    cut(folder.metrics, 8)
    main(go_on(folder))
    assert "metrics.csv has lost 1 of 2 lines" in caplog.text
    first, last = read_metrics(folder.metrics)
    assert first == read_metrics(trained.metrics)[0]
    assert last["iteration"] == load_checkpoint(folder.last_checkpoint).iterations == 3


def test_a_run_whose_metrics_csv_is_gone_goes_on(folder, caplog):
    folder.metrics.unlink()
    main(go_on(folder))
    assert "metrics.csv has lost 2 of 2 lines" in caplog.text
    assert [line["iteration"] for line in lines(folder.metrics)] == ["3"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\n", b"iteration,eta\n1,much\n", b"iteration,eta\n1\n", b"a\n1\n"])
def test_a_metrics_csv_of_something_else_is_refused_and_left_alone(content, folder, tmp_path):
    before = folder.last_checkpoint.read_bytes()
    folder.metrics.write_bytes(content)
    assert_refused(go_on(folder), "move it away to go on without its lines", tmp_path)
    assert folder.metrics.read_bytes() == content
    assert folder.last_checkpoint.read_bytes() == before


def without(key):
    return lambda content: {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message", "verbs"),
    [
        (lambda content: content["state_dict"], "is not a checkpoint of cmaml_pl", 3),
        (lambda content: {**content, "epoch": "last"}, "is not a checkpoint of cmaml_pl", 3),
        (lambda content: {**content, "state_dict": 3}, "is not a checkpoint of cmaml_pl", 3),
        (lambda content: [1, 2], "is not a checkpoint of cmaml_pl", 3),
        (without("optimizer_states"), "cannot be gone on with: it has no optimizer_states", 1),
        (without("hyper_parameters"), "cannot be gone on with: it has no hyper_parameters", 1),
    ],
    ids=["plain weights", "wrong epoch", "no tensors", "a list", "no optimisers", "no configuration"],
)
def test_a_file_that_is_no_whole_checkpoint_is_refused(change, message, verbs, folder, tmp_path):
    torch.save(change(torch.load(folder.last_checkpoint, weights_only=True)), folder.last_checkpoint)
    for arguments in all_verbs(folder)[:verbs]:
        assert_refused(arguments, message, tmp_path)


def test_a_checkpoint_of_another_architecture_is_refused(folder, tmp_path):
    cmaml("train", "exp=nav2d", "run.id=b", *TINY, *DISABLED, "policy.hidden=[8]", cwd=tmp_path)
    other = RunFolder(tmp_path / "runs/nav2d/b")
    shutil.copy(other.last_checkpoint, folder.last_checkpoint)
    for arguments in all_verbs(folder):
        assert_refused(arguments, "policy.hidden is [64, 64] here and [8] there", tmp_path)


def test_a_run_whose_folder_was_moved_goes_on_in_the_new_place(folder, tmp_path):
    moved = RunFolder(tmp_path / "elsewhere/b")
    moved.path.parent.mkdir()
    folder.path.rename(moved.path)
    main(go_on(moved))
    assert len(lines(moved.metrics)) == 3
    assert load_checkpoint(moved.last_checkpoint).iterations == 3
    assert not folder.path.exists()


def test_a_run_that_has_not_trained_has_nothing_to_measure_or_export(folder, tmp_path):
    shutil.rmtree(folder.checkpoints)
    for arguments in all_verbs(folder):
        assert_refused(arguments, "last.ckpt does not exist", tmp_path)


def test_runs_of_different_experiments_are_not_compared(trained, tmp_path):
    store(load_experiment("point_goal", ["run.id=b"]), tmp_path / "config.yaml")
    assert_refused(["evaluate", f"run=[{trained.path},{tmp_path}]"], "cannot be compared: ", tmp_path)


def test_a_sweep_file_with_a_typo_is_refused_before_anything_is_created(tmp_path, monkeypatch):
    folder = shutil.copytree(conf_dir(), tmp_path / "conf")
    monkeypatch.setattr(loading, "conf_dir", lambda: folder)  # in place of the package's own
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    file, good = folder / "sweep/nav2d.yaml", (folder / "sweep/nav2d.yaml").read_text()
    for wrong, right, message in (
        ("outer.rl:", "outer.lr:", "There is no key outer.rl. Did you mean outer.lr?"),
        ("[0.8, lots]", "[0.8, 0.9, 0.95]", "critic.gae_lambda has a wrong value"),
        ("max: -1", "max: 8.0e-3", "outer.lr is -1.0"),
        ("exp=nav3d", "exp=nav2d", "Did you mean nav2d?"),
        ("${args}", "${args_no_hyphens}", "needs a command: with ${args_no_hyphens}"),
        ("metric: [", "metric:", "is not a readable YAML file"),
    ):
        assert right in good
        file.write_text(good.replace(right, wrong, 1))
        assert_refused(["sweep", "exp=nav2d"], message, tmp_path)


def test_without_onnx_everything_but_export_works(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "cmaml_pl.export", raising=False)
    assert_refused(["export", f"ckpt={folder.path}"], "export needs the package onnx: pip install onnx", tmp_path)
    main(go_on(folder))


def test_slurm_with_several_tasks_in_one_number_is_refused(tmp_path, monkeypatch):
    for name, value in {"NTASKS": "2", "JOB_ID": "1", "JOB_NAME": "train"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert_refused(["train", "exp=nav2d", *TINY, *DISABLED], "Use `--ntasks-per-node=2` instead", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_killed_worker_is_one_message_and_the_last_checkpoint_is_there(tmp_path, monkeypatch):
    def kill(self, trainer, *args):
        if trainer.current_epoch == 1:
            (worker,) = set(multiprocessing.active_children()) - others
            worker.kill()

    others = set(multiprocessing.active_children())
    keys = ["exp=point_goal", "tasks.engine=original", "rollout.workers=1", "run.id=a", f"run.dir={tmp_path}"]
    monkeypatch.setattr(LearningCurves, "on_train_batch_start", kill)
    command = ["train", *keys, *TINY, *DISABLED, "quiet=true", "rollout.horizon=5"]
    assert_refused(command, "A worker process of SafetyPointGoal1-v0 has ended (exit code [-9]", tmp_path)
    folder = RunFolder(tmp_path / "point_goal/a")
    assert load_checkpoint(folder.last_checkpoint).iterations == 1
    assert len(lines(folder.metrics)) == 1
