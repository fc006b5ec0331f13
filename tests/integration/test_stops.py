"""Runs that are killed or stopped: nothing that was computed is lost, and they go on as if they had not been.

They have more iterations to do than they are given time for, so that how fast a machine is decides nothing.
"""

import random
import signal
import time

import pytest
from tests.commands import cmaml, started
from tests.integration.runs import DISABLED, TINY, assert_same_run, done

from cmaml_callbacks import LearningCurves
from cmaml_pl.cli import main
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder

KILLS = 10
NO_END = "train.meta_iterations=1000000"
SETTINGS = ["exp=nav2d", *TINY, "train.validate_every=7", *DISABLED]
TRAIN = ["train", *SETTINGS, "run.id=a", "run.resume=auto"]


def assert_goes_on_as_if_it_had_not_stopped(folder, cwd):
    total = f"train.meta_iterations={done(folder) + 2}"
    cmaml(*TRAIN, total, cwd=cwd)
    cmaml("train", *SETTINGS, "run.id=whole", total, cwd=cwd)
    assert_same_run(folder, RunFolder(folder.path.with_name("whole")))


def test_a_run_that_is_killed_at_ten_random_moments_ends_as_one_that_is_not(tmp_path):
    folder, moments, progress = RunFolder(tmp_path / "runs/nav2d/a"), random.Random(0), [0]
    while len(progress) <= KILLS:
        with started("cmaml_pl", *TRAIN, NO_END, cwd=tmp_path) as stretch:
            while done(folder) <= progress[-1]:
                assert stretch.running, stretch.printed
                time.sleep(0.002)
            time.sleep(moments.uniform(0.0, 0.1))
            stretch.process.kill()
            assert stretch.process.wait() == -signal.SIGKILL
        progress.append(done(folder))
    # each stretch got further; what a kill can cost is the iteration that it hits, which is computed again
    assert progress == sorted(set(progress)), progress
    assert folder.newest_good_checkpoint().iterations in (progress[-1] - 1, progress[-1])
    assert_goes_on_as_if_it_had_not_stopped(folder, tmp_path)


def stop(number, cwd, *arguments):
    """Send a signal to a run of which three iterations are done; its return code and what it has printed."""
    with started("cmaml_pl", *TRAIN, NO_END, *arguments, cwd=cwd) as command:
        while done(RunFolder(cwd / "runs/nav2d/a")) < 3:
            assert command.running, command.printed
            time.sleep(0.01)
        command.process.send_signal(number)
        return command.end(), command.printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_iteration_with_a_code_that_asks_for_more(number, tmp_path):
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    code, printed = stop(number, tmp_path)
    assert code == 128 + number
    assert f"Stopped by {number.name}. Go on with run.resume={folder.last_checkpoint.relative_to(tmp_path)}" in printed
    assert load_checkpoint(folder.last_checkpoint).iterations == done(folder) >= 3
    assert_goes_on_as_if_it_had_not_stopped(folder, tmp_path)


def stop_here(monkeypatch, start, *numbers, hook="on_train_batch_start"):
    """Send signals to a run in this process, as the hook of its second iteration begins; its exit code."""

    def interrupt(self, trainer, *args):  # the one way to send a signal at that very moment
        if trainer.current_epoch == 1:
            for number in numbers:
                signal.raise_signal(number)

    monkeypatch.setattr(LearningCurves, hook, interrupt)
    with pytest.raises(SystemExit) as stopped:
        main([*TRAIN, NO_END, f"run.dir={start}", "quiet=true"])
    return stopped.value.code


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_start", "on_train_batch_end"])
def test_a_signal_ends_the_run_with_a_whole_iteration_whenever_it_comes(hook, tmp_path, monkeypatch):
    assert stop_here(monkeypatch, tmp_path, signal.SIGTERM, hook=hook) == 128 + signal.SIGTERM
    folder = RunFolder(tmp_path / "nav2d/a")
    assert done(folder) == load_checkpoint(folder.last_checkpoint).iterations == 2


def test_a_slurm_job_whose_time_is_over_saves_is_requeued_and_goes_on(slurm, tmp_path):
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    # W&B is told before SLURM, which may end the process
    code, printed = stop(signal.SIGUSR1, tmp_path, "logger.wandb=offline")
    assert code == 128 + signal.SIGUSR1, printed
    assert slurm.read_text() == "requeue 4711\n"
    assert load_checkpoint(folder.last_checkpoint).iterations == done(folder) >= 3
    assert_goes_on_as_if_it_had_not_stopped(folder, tmp_path)
    assert slurm.read_text() == "requeue 4711\n"
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_an_array_job_is_requeued_by_its_task_though_sigterm_follows(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4700")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "11")
    code = stop_here(monkeypatch, tmp_path, signal.SIGUSR1, signal.SIGTERM)
    assert code == 128 + signal.SIGUSR1
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
    assert stop_here(monkeypatch, tmp_path, signal.SIGUSR1) == 128 + signal.SIGUSR1
    told = "Job is not requeueable" if refuses else "No such file or directory"
    assert f"SLURM does not requeue the job: scontrol requeue 4711: {told}" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "nav2d/a/checkpoints/last.ckpt").iterations == 2


def test_sigterm_alone_requeues_nothing_on_slurm(slurm, tmp_path, monkeypatch):
    assert stop_here(monkeypatch, tmp_path, signal.SIGTERM) == 128 + signal.SIGTERM
    assert not slurm.exists()
