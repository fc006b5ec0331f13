"""W&B sweeps by the real `wandb sweep` and `wandb agent`, against a server on loopback."""

import signal
import time

import pytest
import yaml
from tests.commands import cmaml, refused, started
from tests.integration.runs import DISABLED, TINY, assert_same_parameters, done, lines
from tests.wandb_server import ENTITY, SWEEP, WandbServer

from cmaml_pl.configuration.loading import conf_dir, load_stored, sweeps
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.tracking.sweeps import load_sweep

PATH = f"{ENTITY}/cmaml_pl/{SWEEP}"
METRIC = "val/post/penalised_return"


def test_the_trials_of_a_sweep_reach_the_training_and_their_metric_the_server(tmp_path):
    trials = {  # whose ids look like numbers
        "00123456": {"outer.lr": 1e-05, "inner.trust_region.max_kl": 0.02, "rollout.workers": None},
        "12345e67": {
            "outer.lr": 0.004,
            "inner.trust_region.max_kl": 0.005,
            "safety.dead_band": True,
            "policy.hidden": [8, 8],
        },
    }
    swept = load_sweep("nav2d")["parameters"]
    tiny = [item for item in TINY if item.partition("=")[0] not in swept]
    with WandbServer(trials) as server:
        env = {**server.environment, "WANDB_SILENT": "false"}
        assert f"make agent SWEEP={PATH}" in cmaml("sweep", "exp=nav2d", *tiny, cwd=tmp_path, env=env)
        printed = cmaml("agent", f"sweep={PATH}", cwd=tmp_path, env=env)
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


def test_a_trial_that_is_preempted_goes_on_under_the_next_agent_as_if_it_had_not_been(tmp_path):
    run_id, trial = "00123456", {"outer.lr": 0.002, "safety.eta_lr": 0.05}
    keys = [item for item in TINY if item.partition("=")[0] not in trial] + ["train.validate_every=20"]
    whole, folder = (RunFolder(tmp_path / "runs/nav2d" / name) for name in ("whole", run_id))
    with WandbServer({run_id: trial}) as server:
        env = server.environment
        cmaml("sweep", "exp=nav2d", *keys, "train.meta_iterations=1000000", cwd=tmp_path, env=env)
        with started("cmaml_pl", "agent", f"sweep={PATH}", cwd=tmp_path, env=env) as first:
            while done(folder) < 3:
                assert first.running, first.printed
                time.sleep(0.02)
            first.process.send_signal(signal.SIGTERM)
            first.end()
            assert "Stopped by SIGTERM" in first.printed
        run, stopped = server.runs[run_id], done(folder)
        assert load_checkpoint(folder.last_checkpoint).iterations == stopped >= 3
        assert run.preempting
        assert run.exit_codes == [128 + signal.SIGTERM]
        assert server.waiting == {run_id: "resume"}
        total = stopped + 3
        server.sweep = server.sweep.replace("train.meta_iterations=1000000", f"train.meta_iterations={total}")
        cmaml("agent", f"sweep={PATH}", cwd=tmp_path, env=env)
    assert list(server.runs) == [run_id]
    assert run.exit_codes == [143, 0]
    assert_all_was_logged(run, folder, total)
    chosen = [f"{key}={value}" for key, value in trial.items()]
    cmaml(
        "train", "exp=nav2d", "run.id=whole", *keys, *chosen, f"train.meta_iterations={total}", *DISABLED, cwd=tmp_path
    )
    assert_same_parameters(folder, whole)


def assert_all_was_logged(run, folder, total):
    """Every meta-iteration once, in the run folder and at W&B."""
    assert [line["_step"] for line in run.history] == list(range(len(run.history)))
    logged = [line for line in run.history if "post/return" in line]
    assert len({line["trainer/global_step"] for line in logged}) == len(logged) == total
    rows = lines(folder.metrics)
    assert [int(row["iteration"]) for row in rows] == list(range(1, total + 1))
    assert [line["throughput/env_steps"] for line in logged] == [float(row["throughput/env_steps"]) for row in rows]


@pytest.mark.parametrize("name", sweeps())
def test_every_sweep_is_of_settings_that_training_takes(name):
    assert load_sweep(name)["metric"] == {"name": METRIC, "goal": "maximize"}


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("exp is missing: exp=NAME, one of nav2d", "sweep"),
        ("Did you mean nav2d?", "sweep exp=nav2"),
        ("the sweep nav2d varies it", "sweep exp=nav2d outer.lr=0.1"),
        ("Did you mean train.meta_iterations?", "sweep exp=nav2d train.meta_iteration=3"),
        ("agent takes sweep=ENTITY/PROJECT/ID", "agent"),
        ("agent takes sweep=ENTITY/PROJECT/ID", "agent sweep=12345678"),
        ("count is 0", "agent sweep=a/b/c count=0"),
        ("Did you mean sweep?", "agent sweeps=a/b/c"),
    ],
)
def test_bad_input_exits_with_two_and_says_what_to_do(message, command, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert message in refused(*command.split(), cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sweep exp=nav2d", "agent sweep=a/b/c"])
def test_without_a_key_there_is_no_sweep(command, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert "there is no W&B key" in refused(*command.split(), cwd=tmp_path)
    assert not list(tmp_path.iterdir())
