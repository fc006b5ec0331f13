"""Measuring a run: the rows against the rollouts, and what is kept."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from tensordict import TensorDict

from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment, store
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation import meta_test
from cmaml_pl.evaluation.arms import open_runs
from cmaml_pl.evaluation.meta_test import LEARNED, RANDOM, measure
from cmaml_pl.evaluation.parts import list_parts, measure_all
from cmaml_pl.evaluation.rows import stage_rows
from cmaml_pl.forks import CAN_FORK
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.task import Task

TINY = [
    "train.tasks_per_batch=3",
    "tasks.test=5",
    "rollout.envs_per_task=2",
    "rollout.horizon=12",
    "logger.wandb=disabled",
    "run.id=x",
]


@pytest.fixture
def run(tmp_path):
    """A run whose checkpoint holds other weights than the first ones."""
    config, folder = load_experiment("nav2d", TINY), RunFolder(tmp_path / "x")
    folder.checkpoints.mkdir(parents=True)
    store(config, folder.config)
    with open_module(config) as module, torch.no_grad():
        for parameter in module.actor.parameters():
            parameter.add_(0.1)
        module.actor.normaliser.update(torch.arange(36.0).reshape(2, 18))
        torch.save({"state_dict": module.state_dict(), "epoch": 0}, folder.last_checkpoint)
    return config, folder


def test_rows_are_what_the_rollouts_gave():
    cost = torch.zeros(2, 2, 6, 1)
    done = torch.zeros(2, 2, 6, 1, dtype=torch.bool)
    done[:, :, -1] = True
    done[0, 0, 2] = True  # three episodes of the first task: costs 3, 0 and 1
    cost[0, 0, :3] = 1.0
    cost[0, 1, 0] = 1.0
    rollout = TensorDict({"next": {"cost": cost, "done": done}}, [2, 2, 6])
    data = SimpleNamespace(episode_return=torch.tensor([0.5, 1.0]), episode_cost=torch.tensor([4 / 3, 0.0]))
    tasks = [Task("nav2d", 7, 7, cost_limit=1.0), Task("nav2d", 8, 8, cost_limit=0.0)]
    stage, predicted = SimpleNamespace(rollout=rollout, data=data), torch.tensor([0.5, 0.0])
    first, second = stage_rows(tasks, stage, step=2, seed=5, discount=1.0, predicted=predicted)
    assert first == {
        "seed": 5,
        "task": 7,
        "step": 2,
        "env_steps": 2 * 12,
        "return": 0.5,
        "cost": pytest.approx(4 / 3),
        "max_cost": 3.0,
        "cost_limit": 1.0,
        "violated": 1,
        "predicted_cost": 0.5,
        "critic_error": pytest.approx(4 / 3 - 0.5),
    }
    assert second["max_cost"] == second["violated"] == 0  # at its limit is not over it


def test_every_test_task_is_measured_at_every_step_from_either_start(run):
    config, folder = run
    for start in (LEARNED, RANDOM):
        found, kept = measure(config, folder, start, steps=2)
        assert not kept
        assert [row["step"] for row in found.rows if row["task"] == found.rows[0]["task"]] == [0, 1, 2]
        assert len({row["task"] for row in found.rows}) == 5
        assert {row["env_steps"] for row in found.rows if row["step"] == 2} == {2 * 2 * 12}
        assert [(trace.task, trace.step) for trace in found.traces] == [
            (row["task"], step) for step in (0, 2) for row in found.rows[:3]
        ]


def test_the_starts_are_the_checkpoints_and_the_first_weights(run):
    config, folder = run
    with open_module(config) as module:
        first = module.actor.vector()
        module.load_state_dict(torch.load(folder.last_checkpoint, weights_only=True)["state_dict"])
        tasks = build_datamodule(config).splits["test"][:3]
        for start, theta in ((RANDOM, first), (LEARNED, module.deployed)):
            stage = module.adapt(tasks, 1, ("test", 0), theta=theta)[0]
            found, _ = measure(config, folder, start, steps=1)
            assert [row["return"] for row in found.rows[:3]] == stage.data.episode_return.tolist()


def test_what_was_measured_is_kept_until_something_differs(run):
    config, folder = run
    first, _ = measure(config, folder, LEARNED, steps=1)
    again, kept = measure(config, folder, LEARNED, steps=1)
    assert kept
    assert again.rows == first.rows
    assert torch.equal(again.traces[0].positions["agent"], first.traces[0].positions["agent"])

    def measured(config, steps=1):
        def written():
            return {path: path.stat().st_mtime_ns for path in folder.measurements.iterdir()}

        before = written()
        _, kept = measure(config, folder, LEARNED, steps=steps)
        assert kept == (written() == before)
        return not kept

    relabelled = load_experiment("nav2d", [*TINY, "run.id=other", "logger.wandb=offline"])
    assert not measured(relabelled)
    assert measured(config, steps=2)
    assert measured(load_experiment("nav2d", [*TINY, "inner.max_kl=0.02"]))
    assert measured(config)  # since the one before has replaced it
    (path,) = folder.measurements.glob("learned_1_steps.pt")
    path.write_bytes(path.read_bytes()[:500])
    assert measured(config)
    content = torch.load(folder.last_checkpoint, weights_only=True)
    torch.save({**content, "epoch": 1}, folder.last_checkpoint)
    assert measured(config)


def test_each_strategy_of_deployment_keeps_its_own_measurement_and_a_random_start_has_none(run):
    config, folder = run
    mixed = load_experiment("nav2d", [*TINY, "deployment.method=mixture"])
    adapted, _ = measure(config, folder, LEARNED, steps=2)
    found, kept = measure(mixed, folder, LEARNED, steps=2)
    assert not kept
    assert [row for row in found.rows if row["step"] == 0] == [row for row in adapted.rows if row["step"] == 0]
    assert found.rows != adapted.rows
    other = load_experiment("nav2d", [*TINY, "deployment.method=mixture", "deployment.worst_cost=3"])
    assert not measure(other, folder, LEARNED, steps=2)[1]
    for settings in (config, mixed, other):
        assert measure(settings, folder, LEARNED, steps=2)[1]
    measure(config, folder, RANDOM, steps=1)
    assert measure(mixed, folder, RANDOM, steps=1)[1]  # the same measurement, not one more


def test_what_other_code_has_measured_is_measured_anew(run, monkeypatch):
    config, folder = run
    monkeypatch.setattr(meta_test, "sources_digest", lambda: "the code of then")
    measure(config, folder, LEARNED, steps=1)
    assert measure(config, folder, LEARNED, steps=1)[1]
    monkeypatch.setattr(meta_test, "sources_digest", lambda: "the code of now")
    assert not measure(config, folder, LEARNED, steps=1)[1]
    monkeypatch.setattr(meta_test, "own_sources", lambda config: {"policy.actor": "the network of now"})
    assert not measure(config, folder, LEARNED, steps=1)[1]
    assert measure(config, folder, LEARNED, steps=1)[1]


def test_measuring_twice_gives_the_same_bits(run):
    config, folder = run
    first, _ = measure(config, folder, LEARNED, steps=1)
    for path in folder.measurements.iterdir():
        path.unlink()
    second, kept = measure(config, folder, LEARNED, steps=1)
    assert not kept
    assert first.rows == second.rows


def test_more_steps_begin_with_the_numbers_of_fewer(run):
    config, folder = run
    one, _ = measure(config, folder, LEARNED, steps=1)
    two, _ = measure(config, folder, LEARNED, steps=2)
    assert [row for row in two.rows if row["step"] < 2] == one.rows


def forked(test):
    """Python 3.12 and later warn of forks where there are threads: here those of pytest and of numerical libraries."""
    for mark in (
        pytest.mark.skipif(not CAN_FORK, reason="processes are not forked here"),
        pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    ):
        test = mark(test)
    return test


@forked
def test_what_is_measured_at_once_is_what_is_measured_one_after_the_other(run):
    _, folder = run
    parts = list_parts(open_runs([folder.path]))

    def measured(jobs):
        console = Console(file=io.StringIO())
        rows, traces = measure_all(parts, 2, "test", console, jobs=jobs)
        return rows, list(traces), console.file.getvalue()

    rows, methods, printed = measured(2)
    assert printed.splitlines() == ["  1/2  fomaml+trpo_lag, seed 0", "  2/2  random, seed 0"]
    assert len(rows) == 2 * 5 * 3  # starts, tasks, steps
    assert measured(2)[2].count("measured before") == 2
    for file in folder.measurements.glob("*.pt"):
        file.unlink()
    assert measured(1) == (rows, methods, printed)


@forked
def test_what_a_fork_cannot_measure_is_the_error_of_whoever_asks(run):
    _, folder = run
    parts = list_parts(open_runs([folder.path]))
    folder.last_checkpoint.write_text("torn")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        measure_all(parts, 1, "test", Console(quiet=True), jobs=2)
    assert "UserError" in (folder.measurements / "learned.log").read_text()
