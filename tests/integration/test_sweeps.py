"""W&B sweeps by the real `wandb sweep` and `wandb agent`, against a server on loopback."""

import os
import signal
import subprocess
import time

import pytest
import torch
import yaml
from tests.integration.test_commands import DISABLED, TINY, cmaml, final_state, lines, run_here
from tests.wandb_server import ENTITY, SWEEP, WandbServer

from cmaml_pl.cli import main
from cmaml_pl.configuration.loading import conf_dir, load_stored, sweeps
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.tracking.sweeps import load_sweep

METRIC = "val/post/penalised_return"


def test_the_trials_of_a_sweep_reach_the_training_and_their_metric_the_server(tmp_path, monkeypatch, capsys):
    trials = {  # two ids look like numbers
        "abcd1234": {"outer.lr": 1e-05, "inner.max_kl": 0.02, "rollout.workers": None},
        "00123456": {"outer.lr": 0.004, "inner.max_kl": 0.02, "safety.dead_band": True},
        "12345e67": {"outer.lr": 0.004, "inner.max_kl": 0.005, "policy.hidden": [8, 8]},
    }
    swept = load_sweep("nav2d")["parameters"]
    tiny = [item for item in TINY if item.partition("=")[0] not in swept]
    with WandbServer(trials) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        main(["sweep", "exp=nav2d", *tiny])  # in this process, for speed
        assert f"make agent SWEEP={ENTITY}/cmaml_pl/{SWEEP}" in capsys.readouterr().out
        printed = cmaml("agent", f"sweep={ENTITY}/cmaml_pl/{SWEEP}", cwd=tmp_path, env={"WANDB_SILENT": "false"})
    for warning in ("Ignoring", "locked", "Warning", "WARNING"):
        assert warning not in printed, printed
    created = yaml.safe_load(server.sweep)
    assert created["parameters"] == yaml.safe_load((conf_dir() / "sweep/nav2d.yaml").read_text())["parameters"]
    folders = {folder.name: folder for folder in (tmp_path / "runs/nav2d").iterdir()}
    assert folders.keys() == server.runs.keys() == trials.keys()
    for run_id, parameters in trials.items():
        run, rows = server.runs[run_id], lines(folders[run_id] / "metrics.csv")
        config = flatten(load_stored(folders[run_id] / "config.yaml"))
        assert {key: config[key] for key in parameters} == parameters
        assert (run.project, run.sweep, run.exit_codes) == ("cmaml_pl", SWEEP, [0])
        assert [line[METRIC] for line in run.history if METRIC in line] == [run.summary[METRIC]]
        assert run.summary[METRIC] == pytest.approx(float(rows[-1][METRIC]))
        for row in rows:  # the limit is 0
            expected = float(row["post/return"]) - float(row["post/cost"])
            assert float(row["post/penalised_return"]) == pytest.approx(expected)


def test_a_run_that_is_asked_for_again_goes_on_with_itself(tmp_path):
    agent = {"WANDB_SWEEP_ID": SWEEP, "WANDB_RUN_ID": "00123456", "WANDB_PROJECT": "other", "WANDB_ENTITY": ENTITY}
    command = ["train", "exp=nav2d", *TINY, "inner.cost_limit=100", "run.id=ignored"]
    with WandbServer() as server:
        for iterations in (2, 4):
            longer = f"train.meta_iterations={iterations}"
            cmaml(*command, longer, cwd=tmp_path, env={**server.environment, **agent})
        folder = tmp_path / "runs/nav2d/00123456"
        # and by hand, where the environment names no run
        cmaml("train", f"run.resume={folder}", "train.meta_iterations=5", cwd=tmp_path, env=server.environment)
    assert list(server.runs) == ["00123456"]
    run = server.runs["00123456"]
    assert run.project == "other"
    rows = lines(folder / "metrics.csv")
    assert all(row["post/penalised_return"] == row["post/return"] for row in rows)  # within the limit
    assert [line["_step"] for line in run.history] == list(range(len(run.history)))
    logged = [line["throughput/env_steps"] for line in run.history if "post/return" in line]
    assert logged == [float(row["throughput/env_steps"]) for row in rows]
    assert len(logged) == 5


def start_agent(monkeypatch, cwd):
    """What `cmaml_pl agent` becomes, in a process of its own."""
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
        main(["agent", f"sweep={ENTITY}/cmaml_pl/{SWEEP}"])
    ((_, command, env),) = calls
    assert "--forward-signals" in command
    env.pop("WANDB_SERVICE", None)  # of this process
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_trial_that_is_preempted_goes_on_under_the_next_agent_as_if_it_had_not_been(tmp_path, monkeypatch):
    run_id, total, trial = "00123456", 30, {"outer.lr": 0.002, "safety.eta_lr": 0.05}
    keys = [item for item in TINY if item.partition("=")[0] not in trial]
    keys += [f"train.meta_iterations={total}", "train.validate_every=20"]
    chosen = [*DISABLED, *(f"{key}={value}" for key, value in trial.items())]
    main(["train", "exp=nav2d", "run.id=whole", f"run.dir={tmp_path / 'runs'}", "quiet=true", *keys, *chosen])
    whole, folder = tmp_path / "runs/nav2d/whole", tmp_path / "runs/nav2d" / run_id
    with WandbServer({run_id: trial}) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        main(["sweep", "exp=nav2d", *keys])
        first = start_agent(monkeypatch, tmp_path)
        while not (folder / "metrics.csv").exists() or len(lines(folder / "metrics.csv")) < 3:
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        first.send_signal(signal.SIGTERM)
        printed, _ = first.communicate(timeout=60)
        assert "Stopped by SIGTERM" in printed, printed
        run, stopped = server.runs[run_id], len(lines(folder / "metrics.csv"))
        assert 3 <= stopped < total
        assert load_checkpoint(folder / "checkpoints/last.ckpt").iterations == stopped
        assert run.preempting
        assert run.exit_codes == [128 + signal.SIGTERM]
        assert server.waiting == {run_id: "resume"}
        second = start_agent(monkeypatch, tmp_path)
        printed += second.communicate(timeout=120)[0]
        assert second.returncode == 0
    assert "Traceback" not in printed, printed
    assert list(server.runs) == [run_id]
    assert run.exit_codes == [143, 0]
    assert [line["_step"] for line in run.history] == list(range(len(run.history)))
    logged = [line["trainer/global_step"] for line in run.history if "post/return" in line]
    assert len(logged) == len(set(logged)) == total
    rows = lines(folder / "metrics.csv")
    assert [int(row["iteration"]) for row in rows] == list(range(1, total + 1))
    steps = [line["throughput/env_steps"] for line in run.history if "post/return" in line]
    assert steps == [float(row["throughput/env_steps"]) for row in rows]
    ours, theirs = final_state(folder), final_state(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", sweeps())
def test_every_sweep_is_of_settings_that_training_takes(name):
    assert load_sweep(name)["metric"] == {"name": METRIC, "goal": "maximize"}


def test_bad_input_exits_with_two_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    cases = {
        ("sweep",): "exp is missing: exp=NAME, one of nav2d",
        ("sweep", "exp=nav2"): "Did you mean nav2d?",
        ("sweep", "exp=nav2d", "outer.lr=0.1"): "the sweep nav2d varies it",
        ("sweep", "exp=nav2d", "train.meta_iteration=3"): "Did you mean train.meta_iterations?",
        ("agent",): "agent takes sweep=ENTITY/PROJECT/ID",
        ("agent", "sweep=12345678"): "agent takes sweep=ENTITY/PROJECT/ID",
        ("agent", "sweep=a/b/c", "count=0"): "count is 0",
        ("agent", "sweeps=a/b/c"): "Did you mean sweep?",
    }
    for arguments, message in cases.items():
        assert message in run_here(arguments, cwd=tmp_path), arguments
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for arguments in (("sweep", "exp=nav2d"), ("agent", "sweep=a/b/c")):
        assert "there is no W&B key" in run_here(arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
