"""Runs that are killed, stopped, or find a bad file or a full disk: nothing that was computed is lost."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.integration.test_commands import DISABLED, TINY, cmaml, final_state, lines

from cmaml_callbacks import LearningCurves
from cmaml_pl.cli import main
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder

KILLS = 10
LONG = [*TINY, "train.meta_iterations=100", "train.validate_every=7", *DISABLED]


@pytest.fixture(scope="module")
def processes():
    """Starts Python processes that have imported all there is to import: a kill then hits training, not imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cmaml_pl.cli"])
    return context


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    cmaml("train", "exp=nav2d", "run.id=a", *LONG, cwd=folder)
    return RunFolder(folder / "runs/nav2d/a")


def train(arguments: list[str]) -> None:
    main(["train", "exp=nav2d", "run.id=a", "run.resume=auto", "quiet=true", *arguments])


def done(folder: RunFolder) -> int:
    return len(lines(folder.metrics)) if folder.metrics.exists() else 0


def assert_equal(folder: RunFolder, expected: RunFolder) -> None:
    ours, theirs = final_state(folder.path), final_state(expected.path)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    timed = {"throughput/env_steps_per_s"}
    for mine, other in zip(lines(folder.metrics), lines(expected.metrics), strict=True):
        assert {k: v for k, v in mine.items() if k not in timed} == {k: v for k, v in other.items() if k not in timed}


def test_a_run_that_is_killed_at_ten_random_moments_ends_as_one_that_is_not(processes, uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    moments, killed, progress = random.Random(0), 0, [0]
    while killed < KILLS:
        process = processes.Process(target=train, args=([*LONG, f"run.dir={tmp_path / 'runs'}"],))
        process.start()
        while done(folder) <= progress[-1] and process.is_alive():
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.1))
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        progress.append(done(folder))
    assert killed == KILLS, f"the run was done after {killed} kills: {progress}"
    # each stretch got further; what a kill can cost is the iteration that it hits, which is computed again
    assert progress == sorted(set(progress)), progress
    assert folder.newest_good_checkpoint().iterations in (progress[-1] - 1, progress[-1])
    cmaml("train", "exp=nav2d", "run.id=a", "run.resume=auto", *LONG, cwd=tmp_path)
    assert_equal(folder, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_iteration_with_a_code_that_asks_for_more(number, uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    command = [sys.executable, "-m", "cmaml_pl", "train", "exp=nav2d", "run.id=a", "run.resume=auto", *LONG]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while done(folder) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    printed = "".join(process.communicate(timeout=60))
    assert process.returncode == 128 + number
    assert "Traceback" not in printed
    assert f"Stopped by {number.name}. Go on with run.resume={folder.last_checkpoint.relative_to(tmp_path)}" in printed
    stopped = done(folder)
    assert 3 <= stopped < 100
    assert load_checkpoint(folder.last_checkpoint).iterations == stopped
    cmaml("train", "exp=nav2d", "run.id=a", "run.resume=auto", *LONG, cwd=tmp_path)
    assert_equal(folder, uninterrupted)


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_start", "on_train_batch_end"])
def test_a_signal_ends_the_run_with_a_whole_iteration_whenever_it_comes(hook, tmp_path, monkeypatch):
    def interrupt(self, trainer, *args):
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(LearningCurves, hook, interrupt)
    with pytest.raises(SystemExit) as stopped:
        train([*LONG, f"run.dir={tmp_path}"])
    assert stopped.value.code == 128 + signal.SIGTERM
    folder = RunFolder(tmp_path / "nav2d/a")
    assert done(folder) == load_checkpoint(folder.last_checkpoint).iterations == 2


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


def raise_in_the_second_iteration(monkeypatch, *numbers):
    def interrupt(self, trainer, *args):
        if trainer.current_epoch == 1:
            for number in numbers:
                signal.raise_signal(number)

    monkeypatch.setattr(LearningCurves, "on_train_batch_start", interrupt)


def test_a_slurm_job_whose_time_is_over_saves_is_requeued_and_goes_on(slurm, uninterrupted, tmp_path):
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    command = [sys.executable, "-m", "cmaml_pl", "train", "exp=nav2d", "run.id=a", "run.resume=auto", *LONG]
    command.append("logger.wandb=offline")  # W&B is told before SLURM, which may end the process
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while done(folder) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    printed = "".join(process.communicate(timeout=60))
    assert process.returncode == 128 + signal.SIGUSR1, printed
    assert "Traceback" not in printed
    assert slurm.read_text() == "requeue 4711\n"
    assert 3 <= done(folder) == load_checkpoint(folder.last_checkpoint).iterations < 100
    train([*LONG, f"run.dir={tmp_path / 'runs'}"])
    assert slurm.read_text() == "requeue 4711\n"
    assert_equal(folder, uninterrupted)
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_an_array_job_is_requeued_by_its_task_though_sigterm_follows(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    raise_in_the_second_iteration(monkeypatch, signal.SIGUSR1, signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        train([*LONG, f"run.dir={tmp_path}"])
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert slurm.read_text() == "requeue 4700_11\n"
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


@pytest.mark.parametrize("refuses", ["echo Job is not requeueable >&2; exit 1", None])
def test_a_requeue_that_slurm_refuses_is_told_and_the_checkpoint_is_there(
    refuses, slurm, tmp_path, monkeypatch, capsys
):
    program = tmp_path / "bin/scontrol"
    if refuses:
        program.write_text(f"#!/bin/sh\n{refuses}\n")
    else:
        program.unlink()
    raise_in_the_second_iteration(monkeypatch, signal.SIGUSR1)
    with pytest.raises(SystemExit) as stopped:
        train([*LONG, f"run.dir={tmp_path}"])
    assert stopped.value.code == 128 + signal.SIGUSR1
    told = "Job is not requeueable" if refuses else "No such file or directory"
    assert f"SLURM does not requeue the job: scontrol requeue 4711: {told}" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "nav2d/a/checkpoints/last.ckpt").iterations == 2


def test_sigterm_alone_requeues_nothing_on_slurm(slurm, tmp_path, monkeypatch):
    raise_in_the_second_iteration(monkeypatch, signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        train([*LONG, f"run.dir={tmp_path}"])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not slurm.exists()


SHORT = [*TINY, *DISABLED, "train.meta_iterations=3"]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Three iterations of the four that the tests below want."""
    start = tmp_path_factory.mktemp("short")
    cmaml("train", "exp=nav2d", "run.id=a", *SHORT, cwd=start)
    return RunFolder(start / "runs/nav2d/a")


def copy(folder: RunFolder, target) -> RunFolder:
    path = target / "runs/nav2d/a"
    path.parent.mkdir(parents=True)
    subprocess.run(["cp", "-r", str(folder.path), str(path)], check=True)
    return RunFolder(path)


@pytest.mark.parametrize("tenth", range(10))
def test_a_torn_checkpoint_is_skipped_for_the_one_before(tenth, short, tmp_path, caplog):
    folder = copy(short, tmp_path)
    content = folder.last_checkpoint.read_bytes()
    folder.last_checkpoint.write_bytes(content[: len(content) * tenth // 10])
    newest = folder.newest_good_checkpoint()
    assert newest.path == folder.checkpoints / "previous.ckpt"
    assert newest.iterations == 2
    assert "last.ckpt cannot be read: it is cut off" in caplog.text
    assert "It is skipped" in caplog.text


def test_a_run_goes_on_from_the_checkpoint_before_a_torn_one(short, tmp_path):
    folder = copy(short, tmp_path)
    whole = folder.last_checkpoint.read_bytes()
    folder.last_checkpoint.write_bytes(whole[:1000])
    again = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *SHORT)
    assert "It is skipped" in cmaml(*again, cwd=tmp_path)
    assert_equal(folder, short)
    for path in folder.checkpoints.iterdir():
        path.write_bytes(whole[:1000])
    assert "No checkpoint in" in cmaml(*again, cwd=tmp_path, code=2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("full", ["checkpoints/last.tmp", "metrics.tmp"])
def test_a_full_disk_is_one_message_and_leaves_the_last_good_checkpoint(full, short, tmp_path):
    folder = copy(short, tmp_path)
    before = folder.last_checkpoint.read_bytes()
    (folder.path / full).symlink_to("/dev/full")
    again = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *SHORT, "train.meta_iterations=4")
    printed = cmaml(*again, cwd=tmp_path, code=2)
    assert "No space left on device" in printed
    assert folder.last_checkpoint.read_bytes() == before
    (folder.path / full).unlink(missing_ok=True)
    cmaml(*again, cwd=tmp_path)
    assert len(lines(folder.metrics)) == 4


def test_only_one_process_trains_in_a_folder(short, tmp_path):
    folder = copy(short, tmp_path)
    again = ("train", "exp=nav2d", "run.id=a", "run.resume=auto", *SHORT, "train.meta_iterations=4")
    with folder.lock():
        assert "Another process is training in" in cmaml(*again, cwd=tmp_path, code=2)
    cmaml(*again, cwd=tmp_path)


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    printed = cmaml("train", "exp=nav2d", "run.dir=file", *SHORT, cwd=tmp_path, code=2)
    assert "Not a directory" in printed
