"""Several processes that share a meta-batch."""

import contextlib
import signal
import socket
import time

import pytest
import torch
from tests.commands import cmaml, run, started
from tests.distributed.same_rollouts import train_on
from tests.integration.runs import DISABLED, TINY, done, final_state, lines

from cmaml_pl.cli import main
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder

# conjugate gradients make much of rounding in so few data: two iterations, before they do
THREE = [*TINY, *DISABLED, "exp=nav2d", "train.meta_iterations=3", "train.validate_every=3", "inner.cg_iterations=2"]
LONG = [*THREE, "train.meta_iterations=1000000"]
# 5 validation tasks in batches of 2: of the last batch, the second of two ranks has none
ARMS = {
    "cmaml": ["tasks.validation=5", "safety.eta=0.5", "safety.dead_band=false", "outer.passes=2", "outer.max_kl=1e-3"],
    "pretrain": ["arm=pretrain", "inner.cost_limit=0"],
    "exploring": ["policy.context=2", "exploration.std=1", "exploration.informed=0.5"],
}


TWO = ["trainer.devices=2", "trainer.strategy=ddp"]


def assert_equal(one: RunFolder, two: RunFolder) -> None:
    """The same parameters and metrics after training; the speed is left out."""
    expected, found = final_state(one.path), final_state(two.path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-8)
    for mine, other in zip(lines(one.metrics), lines(two.metrics), strict=True):
        for name in (name for name in mine if not name.startswith("throughput/env_steps_per_s")):
            assert float(other[name] or 0) == pytest.approx(float(mine[name] or 0), rel=1e-6, abs=1e-8), name


@pytest.mark.parametrize("arm", ARMS)
def test_two_ranks_compute_what_one_does_on_the_same_rollouts(arm, tmp_path):
    file, arguments = tmp_path / "rollouts", [*THREE, *ARMS[arm], f"run.dir={tmp_path}", "quiet=true"]
    train_on(file, [*arguments, "run.id=recorded"])
    train_on(file, [*arguments, "run.id=one"])
    gradients = torch.load(file.with_suffix(".gradients"), weights_only=True)
    run("tests.distributed.same_rollouts", str(file), *arguments, *TWO, "run.id=two", cwd=tmp_path)
    for one, two in zip(gradients, torch.load(file.with_suffix(".gradients"), weights_only=True), strict=True):
        assert one.norm() > 0
        torch.testing.assert_close(two, one, rtol=0, atol=1e-8)
    alone, both = (RunFolder(tmp_path / "nav2d" / name) for name in ("one", "two"))
    assert_equal(alone, both)
    if arm == "cmaml":
        assert 0 < float(lines(both.metrics)[1]["throughput/messages"]) <= 40


def test_tasks_that_break_are_left_out_of_the_mean_over_all_ranks(tmp_path):
    four = [*THREE, "train.tasks_per_batch=4", f"run.dir={tmp_path}", "quiet=true"]
    file = tmp_path / "rollouts"
    train_on(file, [*four, "run.id=recorded"])
    kept = torch.load(file, weights_only=True)
    for stream, rollout in kept.items():
        if stream.startswith("('train', 1"):
            rollout["next"]["reward"][:2] = torch.nan  # both tasks of the first rank
    torch.save(kept, file)
    train_on(file, [*four, "run.id=one"])
    run("tests.distributed.same_rollouts", str(file), *four, *TWO, "run.id=two", cwd=tmp_path)
    one, two = (RunFolder(tmp_path / "nav2d" / name) for name in ("one", "two"))
    assert [float(line["health/dropped_tasks"]) for line in lines(one.metrics)] == [0, 2, 0]
    assert_equal(one, two)


def test_two_ranks_with_devices_of_their_own_compute_what_one_does_on_the_cpu(tmp_path):
    small = [*THREE, "rollout.horizon=5", "train.meta_iterations=2", f"run.dir={tmp_path}", "quiet=true"]
    main(["train", *small, "run.id=one"])
    run("tests.distributed.pretend_ranks", *small, *TWO, "run.id=two", cwd=tmp_path)
    one, two = (lines(tmp_path / "nav2d" / name / "metrics.csv")[0] for name in ("one", "two"))
    assert float(two["throughput/messages"]) > 0
    for name in ("pre/return", "post/return", "inner/kl", "outer/gradient_norm", "safety_critic/loss"):
        assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-4), name


def test_a_run_of_two_ranks_that_is_stopped_goes_on_with_one(tmp_path):
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    with started("cmaml_pl", "train", *LONG, "trainer.devices=2", "run.id=a", cwd=tmp_path) as two:
        while done(folder) < 3:
            assert two.running, two.printed
            time.sleep(0.01)
        two.process.send_signal(signal.SIGTERM)
        assert two.end() == 128 + signal.SIGTERM, two.printed
        assert two.printed.count("Go on with run.resume=") == 1
    stopped = done(folder)
    assert load_checkpoint(folder.last_checkpoint).iterations == stopped
    on = [f"run.resume={folder.path}", f"train.meta_iterations={stopped + 2}", "trainer.devices=1"]
    cmaml("train", *on, cwd=tmp_path)
    assert [int(line["iteration"]) for line in lines(folder.metrics)] == [*range(1, stopped + 3)]


# the message that follows is of the module's own, or Lightning's, after it has saved
@pytest.mark.parametrize(("hook", "saved"), [("on_train_batch_start", 2), ("on_train_epoch_end", 3)])
def test_when_a_rank_dies_the_run_ends_with_a_message_and_its_last_checkpoint(hook, saved, tmp_path):
    printed = run("tests.distributed.dying_rank", hook, *LONG, *TWO, "run.id=a", cwd=tmp_path, code=2)
    assert "Rank 0 of 2 has lost the others" in printed
    assert RunFolder(tmp_path / "runs/nav2d/a").newest_good_checkpoint().iterations == saved


ONE_OF_TWO = """
import os, subprocess, sys, time
from cmaml_pl.distributed import strategy
strategy.GRACE = 1.0
another = subprocess.Popen([sys.executable, "-c", "exit(1)"])
observer = strategy.PatientObserver(os.getpid(), [another], sleep_period=0.01)
observer.start()
"""


@pytest.mark.parametrize(
    ("then", "code"),
    [("time.sleep(50)", -signal.SIGKILL), ("observer.trained.set(); observer.join()", 0)],
    ids=["it hangs", "it has trained"],
)
def test_a_process_that_does_not_notice_the_loss_of_another_is_killed(then, code, tmp_path):
    (tmp_path / "one_of_two.py").write_text(ONE_OF_TWO + then)
    run("one_of_two", cwd=tmp_path, code=code)


def test_torchrun_starts_the_ranks_as_well(tmp_path):
    """Which are Pythons of their own."""
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cmaml_pl", "train", *THREE)
    printed = run(*torchrun, "trainer.devices=2", "run.id=a", "logger.wandb=offline", cwd=tmp_path, anew=True)
    assert printed.count("wandb sync") == 1
    assert len(lines(tmp_path / "runs/nav2d/a/metrics.csv")) == 3


def test_torchruns_ranks_have_to_be_told_the_name_of_their_run(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torchrun = {"TORCHELASTIC_RUN_ID": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with contextlib.ExitStack() as stack:
        ranks = [
            stack.enter_context(
                started("cmaml_pl", "train", *THREE, "trainer.devices=2", cwd=tmp_path, env={**torchrun, **rank})
            )
            for rank in ({"RANK": "0", "LOCAL_RANK": "0"}, {"RANK": "1", "LOCAL_RANK": "1"})
        ]
        assert [rank.end() for rank in ranks] == [2, 2]
        assert "name the run by run.id" in ranks[0].printed


def test_torchruns_processes_must_be_those_of_the_trainer(tmp_path, monkeypatch, capsys):
    for name, value in {"TORCHELASTIC_RUN_ID": "0", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["train", *THREE, f"run.dir={tmp_path}", "run.id=a"])
    assert "torchrun has started 2 processes, but" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.devices=3"], "train.tasks_per_batch is 2, but must be a multiple of the 3 processes"),
        (["trainer.devices=2", "trainer.strategy=fsdp"], "trainer.strategy is 'fsdp', but must be ddp"),
        (["trainer.devices=0"], "Lightning's Trainer refuses the section trainer"),
    ],
)
def test_ranks_that_cannot_be_are_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", *THREE, f"run.dir={tmp_path}", *arguments])
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
