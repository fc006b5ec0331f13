"""Numbers that go wrong, injected by the environment or by a kernel into runs with the callbacks of a real one."""

import copy
import dataclasses
import logging
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback

from cmaml_callbacks import Safeguard
from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.algorithm.adaptation import sound_stages
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.cli import main
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS
from cmaml_pl.envs.nav2d import Nav2DEnv
from cmaml_pl.errors import UserError
from cmaml_pl.math.advantages import spread
from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.rollout import task_data
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.tasks import nav2d
from cmaml_pl.tasks.nav2d import Nav2DFamily

NAN, INF = float("nan"), float("inf")
TASKS, HORIZON = 4, 12
TINY = [
    f"train.tasks_per_batch={TASKS}",
    "train.validate_every=100",
    "tasks.train=8",
    "tasks.validation=3",
    "rollout.envs_per_task=3",
    f"rollout.horizon={HORIZON}",
    "inner.steps=1",
    "inner.cost_limit=0",
    "safety.dead_band=false",
    "safety.eta=0.1",
    "logger.wandb=disabled",
]


class FaultyEnv(Nav2DEnv):
    """Returns a wrong number for a key, from one rollout of a batch of tasks on, wherever `fault` says so."""

    def __init__(self, *args, fault, **kwargs):
        super().__init__(*args, **kwargs)
        self.fault, self.batches, self.steps = fault, fault.first - 1, 0

    def set_tasks(self, tasks):
        super().set_tasks(tasks)
        self.batches, self.steps = self.batches + 1, 0

    def _step(self, tensordict):
        after = super()._step(tensordict)
        if self.batches in self.fault.batches and self.steps >= self.fault.rollout * HORIZON:
            after[self.fault.key][list(self.fault.rows)] = self.fault.value
        self.steps += 1
        return after


@dataclass(frozen=True)
class Fault:
    batches: tuple[int, ...]  # of tasks, counted from `first`: without validation, meta-iterations from 0
    key: str = "reward"
    value: float = NAN
    rows: tuple[int, ...] = tuple(range(TASKS))
    rollout: int = 0
    first: int = 0


@dataclass(frozen=True)
class FaultyFamily(Nav2DFamily):
    fault: Fault = Fault(())

    def make_env(self, num_tasks, num_envs, *, horizon, workers):
        return FaultyEnv(num_tasks, num_envs, horizon=horizon, fault=self.fault)


class Recorder(Callback):
    """Everything that a meta-iteration may change, and the bytes of the checkpoint, after each."""

    def __init__(self, folder):
        self.folder, self.states, self.checkpoints = folder, [], []

    def on_train_epoch_end(self, trainer, pl_module):
        learners = next(callback for callback in trainer.callbacks if isinstance(callback, Safeguard)).learners
        everything = {
            "module": {name: value for name, value in pl_module.state_dict().items() if name != "env_steps"},
            "eta": pl_module.eta,
            "optimizer": trainer.optimizers[0].state_dict(),
            "learners": [learner.state_dict() for learner in learners],
        }
        self.states.append(tensors(copy.deepcopy(everything)))

    def on_train_epoch_start(self, trainer, pl_module):
        last = self.folder.last_checkpoint
        self.checkpoints.append(last.read_bytes() if last.exists() else b"")


def tensors(tree, prefix=""):
    """Every number of nested dicts and lists, by its path."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {name: value for key, node in items for name, value in tensors(node, f"{prefix}/{key}").items()}
    return {prefix: torch.as_tensor(tree)} if isinstance(tree, torch.Tensor | float | int) else {}


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def train(tmp_path, fault, *overrides, iterations=3, resume=None):
    """A run of a few meta-iterations: its metrics, what was recorded, its folder."""
    config = load_experiment("nav2d", [*TINY, f"train.meta_iterations={iterations}", "quiet=true", *overrides])
    values = {field.name: getattr(config.tasks, field.name) for field in dataclasses.fields(config.tasks)}
    config = dataclasses.replace(config, tasks=FaultyFamily(**values, fault=fault))
    folder = RunFolder(tmp_path)
    folder.path.mkdir(exist_ok=True)
    recorder = Recorder(folder)
    with open_module(config) as module:
        trainer = build_trainer(config, folder)
        trainer.callbacks.append(recorder)
        trainer.fit(module, build_datamodule(config), ckpt_path=resume, weights_only=True)
    return read_metrics(folder.metrics), recorder, folder


def assert_second_was_dropped(metrics, recorder):
    first, second, third = recorder.states
    assert same(first, second)
    assert not same(second, third)
    for name, value in third.items():
        assert value.isfinite().all(), name
    assert [line["health/dropped_iterations"] for line in metrics] == [0, 1, 1]
    assert recorder.checkpoints[1] == recorder.checkpoints[2]  # before the second and before the third
    assert metrics[1]["throughput/env_steps"] > metrics[0]["throughput/env_steps"]  # they were taken


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("key", ["reward", "cost", "observation"])
@pytest.mark.parametrize("rollout", [0, 1])
def test_a_meta_iteration_without_a_sound_task_leaves_everything_as_it_was(key, value, rollout, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="cmaml_callbacks"):
        metrics, recorder, _ = train(tmp_path, Fault((1,), key, value, rollout=rollout))
    assert_second_was_dropped(metrics, recorder)
    assert [line["health/dropped_tasks"] for line in metrics] == [0, TASKS, 0]
    (message,) = caplog.messages
    assert "Meta-iteration 2 was dropped" in message


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("outer", sorted(OUTER_METHODS))
def test_that_holds_for_every_outer_method(outer, tmp_path):
    metrics, recorder, _ = train(tmp_path, Fault((1,)), f"outer.method={outer}")
    assert_second_was_dropped(metrics, recorder)


def spoil(monkeypatch, owner, name, *, call):
    """Let the result of one call of a function be NaN, which no input makes it."""
    original, calls = getattr(owner, name), []

    def spoiled(*args, **kwargs):
        calls.append(name)
        result = original(*args, **kwargs)
        return result * NAN if len(calls) == call else result

    monkeypatch.setattr(owner, name, spoiled)


def test_a_meta_gradient_that_is_not_finite_is_dropped(tmp_path, monkeypatch, caplog):
    spoil(monkeypatch, FOMAML, "_gradients", call=4)  # the second of the second meta-iteration's
    metrics, recorder, _ = train(tmp_path, Fault(()), "outer.passes=2")
    assert_second_was_dropped(metrics, recorder)
    assert "the gradient of actor." in caplog.text


def test_a_gradient_that_the_trust_region_hides_is_dropped_too(tmp_path, monkeypatch):
    spoil(monkeypatch, FOMAML, "_gradients", call=2)
    metrics, recorder, _ = train(tmp_path, Fault(()), "outer.passes=1", "outer.max_kl=0.001")
    assert_second_was_dropped(metrics, recorder)


def test_a_critic_that_is_not_finite_takes_the_whole_meta_iteration_back(tmp_path, monkeypatch, caplog):
    from cmaml_callbacks import safety_critic

    spoil(monkeypatch, safety_critic, "cost_to_go", call=2)
    metrics, recorder, _ = train(tmp_path, Fault(()))
    assert_second_was_dropped(metrics, recorder)
    assert "safety_critic.body" in caplog.text


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("key", ["reward", "cost", "observation"])
@pytest.mark.parametrize("rollout", [0, 1])
def test_one_broken_task_is_left_out_and_the_others_are_learned_from(key, rollout, tmp_path):
    metrics, recorder, _ = train(tmp_path, Fault((1,), key, rows=(2,), rollout=rollout))
    assert [line["health/dropped_tasks"] for line in metrics] == [0, 1, 0]
    assert [line["health/dropped_iterations"] for line in metrics] == [0, 0, 0]
    assert not same(recorder.states[0], recorder.states[1])
    for state, line in zip(recorder.states, metrics, strict=True):
        assert all(value.isfinite().all() for value in state.values())
        assert all(torch.tensor(value).isfinite() for value in line.values())


def meta_gradient(module, stages):
    """The meta-gradient of some stages."""
    theta, last = module.actor.vector(), stages[-1]
    batch = MetaBatch(theta, stages[0].data, [MetaGoal(last.theta, last.multiplier, last.data)])
    return module.outer.direction(module.actor, theta, batch)


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("inner", sorted(INNER_METHODS))
@pytest.mark.parametrize("key", ["reward", "cost", "observation"])
def test_a_broken_task_keeps_its_parameters_and_changes_nothing_for_the_others(inner, key, monkeypatch):
    # what tasks share is the unit of costs, which tests/rollout/test_task_data.py covers
    monkeypatch.setattr(task_data, "common_scale", lambda advantage, ranks: spread(advantage)[:, 0])
    config = load_experiment("nav2d", [*TINY, f"inner.method={inner}"])
    stages = []
    for fault in (Fault(()), Fault((0,), key, rows=(2,))):
        with open_module(dataclasses.replace(config, tasks=FaultyFamily(fault=fault))) as module:
            tasks = build_datamodule(config).splits["train"][:TASKS]
            stages.append(module.adapt(tasks, 2, ("test",)))
            kept, broken = sound_stages(stages[-1])
            meta = meta_gradient(module, kept)
    good, bad = stages
    others = torch.tensor([True, True, False, True])
    for before, after in zip(good, bad, strict=True):
        assert torch.equal(before.theta[others], after.theta[others])
        assert torch.equal(before.multiplier[others], after.multiplier[others])
    assert torch.equal(bad[-1].theta[2], bad[0].theta[2])
    assert torch.equal(bad[-1].multiplier[2], bad[0].multiplier[2])
    assert bad[-1].step.step_share[2] == bad[-1].step.kl[2] == 0
    assert not torch.equal(good[-1].theta[2], good[0].theta[2])
    # the meta-gradient is the mean of the other tasks' gradients
    assert broken == 1
    expected = [meta_gradient(module, [stage.select(torch.arange(TASKS) == p) for stage in good]) for p in (0, 1, 3)]
    torch.testing.assert_close(meta, torch.stack(expected).mean(dim=0), rtol=1e-4, atol=1e-6)


def test_too_many_in_a_row_end_the_run_and_name_a_checkpoint_from_before(tmp_path):
    with pytest.raises(UserError) as error:
        train(tmp_path, Fault((2, 3, 4)), "train.max_dropped=3", iterations=6)
    checkpoint = RunFolder(tmp_path).last_checkpoint
    assert f"last good checkpoint is {checkpoint}, of meta-iteration 2." in str(error.value)
    content = load_checkpoint(checkpoint).content
    assert content["epoch"] + 1 == 2
    for name, value in tensors({key: content[key] for key in ("state_dict", "optimizer_states", "callbacks")}).items():
        assert value.isfinite().all() or "LastCheckpoint" in name, name
    assert RunFolder(tmp_path).learning_curves.exists()


def test_the_command_then_ends_with_one_message(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nav2d, "Nav2DEnv", partial(FaultyEnv, fault=Fault(tuple(range(2, 9)))))
    keys = ["exp=nav2d", "run.id=a", f"run.dir={tmp_path}", *TINY, "train.max_dropped=2", "train.meta_iterations=9"]
    with pytest.raises(SystemExit) as stop:
        main(["train", *keys])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert printed.err.count("Error: 2 meta-iterations in a row (train.max_dropped) were dropped") == 1
    assert "nav2d/a/checkpoints/last.ckpt, of meta-iteration 2." in printed.err


def test_without_a_good_meta_iteration_there_is_no_checkpoint_to_name(tmp_path):
    with pytest.raises(UserError, match="There is no checkpoint"):
        train(tmp_path, Fault((0,)), "train.max_dropped=1")


def test_a_good_meta_iteration_starts_the_count_again_and_warnings_become_rarer(tmp_path, caplog):
    metrics, _, _ = train(tmp_path, Fault((1, 2, 4, 5)), "train.max_dropped=3", iterations=7)
    assert [line["health/dropped_iterations"] for line in metrics] == [0, 1, 2, 2, 3, 4, 4]
    assert len([message for message in caplog.messages if "was dropped" in message]) == 3  # the 1st, 2nd and 4th


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_that_goes_on_after_a_dropped_meta_iteration_equals_one_that_did_not_stop(tmp_path):
    fault = Fault((1,))
    _, whole, _ = train(tmp_path / "whole", fault, iterations=4)
    _, _, folder = train(tmp_path / "parts", fault, iterations=2)
    again = dataclasses.replace(fault, first=1)  # the checkpoint is of the first meta-iteration
    metrics, parts, _ = train(tmp_path / "parts", again, iterations=4, resume=folder.last_checkpoint)
    assert same(whole.states[-1], parts.states[-1])
    assert [line["health/dropped_iterations"] for line in metrics] == [0, 1, 1, 1]


def test_it_refuses_an_impossible_argument(tmp_path):
    with pytest.raises(ValueError, match="max_dropped"):
        Safeguard([], max_dropped=0, checkpoint=tmp_path)
