"""Files that are cut, gone or of something else, and helpers that die: one message, and what was computed is kept."""

import os
import shutil
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import wandb
from tests.integration.test_commands import DISABLED, TINY, final_state, lines, run_here
from tests.wandb_server import WandbServer

from cmaml_callbacks import LearningCurves
from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.cli import main
from cmaml_pl.configuration import loading
from cmaml_pl.configuration.loading import conf_dir, load_experiment, store
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder


def train(runs: Path, *overrides: str) -> RunFolder:
    main(["train", "exp=nav2d", "run.id=a", f"run.dir={runs}", "quiet=true", *TINY, *DISABLED, *overrides])
    return RunFolder(runs / "nav2d/a")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two meta-iterations."""
    return train(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it, to be spoiled."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "nav2d/a")))


def go_on(folder: RunFolder) -> list[str]:
    return ["train", f"run.resume={folder.path}", "train.meta_iterations=3", "quiet=true"]


def all_verbs(folder: RunFolder) -> list[list[str]]:
    return [go_on(folder), ["evaluate", f"run={folder.path}"], ["export", f"ckpt={folder.path}"]]


def cut(path: Path, tenth: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])


def assert_refused(arguments: list[str], message: str, cwd: Path) -> None:
    printed = run_here(arguments, cwd=cwd)
    assert message in printed, f"{arguments}: {printed}"
    assert printed.count("Error:") == 1


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_configuration_is_refused_and_what_was_trained_stays(tenth, folder, tmp_path):
    before = folder.last_checkpoint.read_bytes()
    cut(folder.config, tenth)
    for arguments in all_verbs(folder):
        printed = run_here(arguments, cwd=tmp_path)
        assert "is not as a run has written it" in printed or "is from another configuration" in printed, printed
        assert "config.yaml" in printed
    assert folder.last_checkpoint.read_bytes() == before


def test_a_missing_configuration_is_named(folder, tmp_path):
    folder.config.unlink()
    messages = ["config.yaml does not exist", "it has no config.yaml", "it has no config.yaml"]
    for arguments, message in zip(all_verbs(folder), messages, strict=True):
        assert_refused(arguments, message, tmp_path)


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
    other = train(tmp_path / "other", "policy.hidden=[8]")
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


@pytest.fixture
def closed():
    """A folder that this user may not write to, and the system's refusal where the user is root."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield path
    os.seteuid(user)
    path.rmdir()


def test_a_read_only_folder_is_one_message(closed):
    assert_refused(["train", "exp=nav2d", f"run.dir={closed}", *TINY, *DISABLED], "Permission denied", closed)


def test_a_sweep_file_with_a_typo_is_refused_before_anything_is_created(tmp_path, monkeypatch):
    folder = shutil.copytree(conf_dir(), tmp_path / "conf")
    monkeypatch.setattr(loading, "conf_dir", lambda: folder)
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
    def kill(self, trainer, module, *args):
        if trainer.current_epoch == 1:
            module.rollouts.env._processes[0].kill()

    keys = ["exp=point_goal", "tasks.engine=original", "rollout.workers=1", "run.id=a", f"run.dir={tmp_path}"]
    monkeypatch.setattr(LearningCurves, "on_train_batch_start", kill)
    command = ["train", *keys, *TINY, *DISABLED, "quiet=true", "rollout.horizon=5"]
    assert_refused(command, "A worker process of SafetyPointGoal1-v0 has ended (exit code [-9]", tmp_path)
    folder = RunFolder(tmp_path / "point_goal/a")
    assert load_checkpoint(folder.last_checkpoint).iterations == 1
    assert len(lines(folder.metrics)) == 1


@pytest.fixture
def online(monkeypatch):
    """An environment in which W&B is used, but soon given up."""
    wandb.teardown()  # an earlier test's W&B has read the environment already, and waits for longer
    monkeypatch.setenv("WANDB_MODE", "online")  # so that what an offline WandbLogger sets is taken back
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    yield monkeypatch
    wandb.finish()
    wandb.teardown()


class Answer500(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format, *arguments):
        """Nothing on the terminal."""


@contextmanager
def broken_server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer500) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def assert_trained_as(trained: RunFolder, folder: RunFolder) -> None:
    ours, theirs = final_state(folder.path), final_state(trained.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len(lines(folder.metrics)) == 2


@pytest.mark.parametrize("mode", ["online", "auto"])
def test_where_nobody_answers_for_wandb_the_run_is_trained_and_recorded_offline(
    mode, online, trained, tmp_path, caplog
):
    folder = train(tmp_path, f"logger.wandb={mode}")
    assert "recorded offline" in caplog.text
    assert_trained_as(trained, folder)
    assert len(list(folder.path.glob("wandb/offline-run-*/run-*.wandb"))) == 1


def test_where_wandb_answers_500_the_run_is_trained_and_recorded_offline(online, trained, tmp_path, caplog):
    with broken_server() as url:
        online.setenv("WANDB_BASE_URL", url)
        folder = train(tmp_path, "logger.wandb=online")
    assert "recorded offline" in caplog.text
    assert "HTTP 500" in caplog.text
    assert_trained_as(trained, folder)


def test_a_wandb_server_that_dies_in_mid_run_costs_nothing_but_the_upload(online, trained, tmp_path):
    def die(self, trainer, *args):
        if trainer.current_epoch == 1:
            server.shutdown()
            server.server_close()

    server = WandbServer()
    online.setattr(LearningCurves, "on_train_batch_start", die)
    with server:
        for name, value in server.environment.items():
            online.setenv(name, value)
        folder = train(tmp_path, "logger.wandb=online")
        wandb.finish()
    assert_trained_as(trained, folder)
    assert len(list(folder.path.glob("wandb/run-*/run-*.wandb"))) == 1  # for `wandb sync`


@pytest.mark.parametrize(
    ("variable", "value", "override", "message"),
    [
        ("WANDB_API_KEY", "short", "logger.id=b", "API key must have 40+ characters"),
        ("WANDB_API_KEY", "0" * 40, "logger.id='a/b'", "Run ID cannot contain the characters"),
        ("WANDB_MODE", "sideways", "logger.id=b", "environment, mode: Input should be 'online'"),
    ],
)
def test_what_wandb_refuses_is_told_at_once(variable, value, override, message, online, tmp_path):
    online.setenv(variable, value)
    command = ["train", "exp=nav2d", "run.id=a", f"run.dir={tmp_path}", "quiet=true", *TINY, "logger.wandb=online"]
    assert_refused([*command, override], message, tmp_path)
