"""Training on another device than the CPU: nothing mixes devices, and the numbers are those of the CPU."""

from itertools import zip_longest
from unittest.mock import create_autospec

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from tests.commands import cmaml, refused
from tests.integration.runs import DISABLED, TINY, assert_same_run, final_state, lines
from tests.pretend_device import (
    DEVICE,
    MixedDevicesError,
    PretendAccelerator,
    PretendTensor,
    pretend,
    trainers_use_it,
)

from cmaml_pl import assembly
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.cli import main
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.meta_test import LEARNED, Recorder, adapt_from
from cmaml_pl.math import advantages
from cmaml_pl.outer.step_limit import limit_step
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import open_run

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL = [*TINY, *DISABLED, "policy.hidden=[4]", "critic.hidden=[4]", "critic.passes=1", "rollout.horizon=4"]
GPU = "trainer.accelerator=gpu"


def by_derivative(methods, attribute):
    """The names of the methods, those with derivatives of the inner steps first."""
    return sorted(methods, key=lambda name: (not getattr(methods[name], attribute), name))


# each inner method with some outer method, and each outer method with some inner method
PAIRS = list(
    zip_longest(
        by_derivative(INNER_METHODS, "differentiable"), by_derivative(OUTER_METHODS, "differentiates"), fillvalue=None
    )
)


def train(folder, *overrides):
    """Two meta-iterations by all callbacks of a run."""
    config = load_experiment("nav2d", [*SMALL, "trainer.limit_val_batches=0", *overrides])
    folder.path.mkdir()
    trainer = build_trainer(config, folder)
    with open_module(config) as module:
        trainer.fit(module, build_datamodule(config))
    return folder


def train_on_both(tmp_path, monkeypatch, *overrides):
    """The folders of the same training on the CPU and on the pretend device."""
    cpu = train(RunFolder(tmp_path / "cpu"), *overrides)
    with trainers_use_it(monkeypatch):
        return train(RunFolder(tmp_path / "device"), GPU, *overrides), cpu


@pytest.mark.parametrize(("inner", "outer"), PAIRS)
def test_every_method_computes_the_same_on_another_device(inner, outer, tmp_path, monkeypatch):
    methods = [f"{section}.method={name}" for section, name in (("inner", inner), ("outer", outer)) if name]
    assert_same_run(*train_on_both(tmp_path, monkeypatch, *methods))


OPTIONS = {
    "limits and fewer samples": [
        *("outer.max_kl=1e-4", "outer.every_step=true", "outer.passes=2"),
        *("critic.samples=10", "safety.critic=false", "critic.shared_reward=false"),
    ],
    "learned lengths and a context": [
        *("outer.radius_lr=0.1", "inner.steps=2"),
        *("policy.context=2", "inner.trust_region.parameters=context", "outer.log_std=false"),
    ],
    "exploration by the context": ["policy.context=2", "exploration.std=1", "exploration.informed=0.5"],
    "a network of one's own": [
        *("policy.actor=tests.integration.test_accelerator:Shifted", "policy.context=0"),
        *("inner.trust_region.parameters=head", "outer.method=fomaml_trpo", "outer.log_std=false"),
    ],
    "a network that remembers": [
        *("policy.actor=examples.own_parts.memory:Memory", "policy.context=0", "policy.options.width=4"),
        *("outer.method=maml", "outer.log_std=false"),
    ],
}


class Shifted(torch.nn.Module):
    """A policy with a buffer, which moves with it."""

    def __init__(self, observation_size, action_size):
        super().__init__()
        self.head = torch.nn.Linear(observation_size, action_size)
        self.log_std = torch.nn.Parameter(torch.full((action_size,), -0.5))
        self.register_buffer("shift", torch.ones(action_size))

    def forward(self, x):
        return self.head(x) + self.shift, self.log_std.exp()


@pytest.mark.parametrize("name", OPTIONS)
def test_options_compute_the_same_on_another_device(name, tmp_path, monkeypatch):
    assert_same_run(*train_on_both(tmp_path, monkeypatch, *OPTIONS[name]))


def test_a_meta_iteration_is_dropped_on_another_device_as_well(tmp_path, monkeypatch):
    folders = train_on_both(tmp_path, monkeypatch, "outer.lr=1e30", "outer.passes=1")
    ours, theirs = ([line | {"throughput/env_steps_per_s": ""} for line in lines(f.metrics)] for f in folders)
    assert ours == theirs
    assert [float(line["health/dropped_iterations"]) for line in ours] == [0.0, 1.0]


@pytest.mark.parametrize("deployment", ["adapted", "mixture"])
def test_the_meta_test_measures_the_same_on_another_device(deployment):
    set_up = [*SMALL, f"deployment.method={deployment}", "inner.cost_limit=1", "inner.steps=2"]
    config = load_experiment("nav2d", set_up)

    def measure(**where):
        recorder = Recorder(seed=0)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        with open_module(config) as module:
            trainer = Trainer(**where, **quiet, enable_model_summary=False, callbacks=[recorder], inference_mode=False)
            trainer.test(module, build_datamodule(config, measured="validation"), verbose=False)
        return recorder

    cpu = measure(accelerator="cpu", devices=1)
    with pretend():
        device = measure(accelerator=PretendAccelerator(), strategy=SingleDeviceStrategy(DEVICE))
    assert device.rows == cpu.rows
    for ours, theirs in zip(device.traces, cpu.traces, strict=True):
        assert ours.lengths == theirs.lengths
        assert all(torch.equal(xy, theirs.positions[name]) for name, xy in ours.positions.items())


def test_a_run_goes_on_from_one_device_to_another_and_is_measured_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = ["train", "exp=nav2d", *SMALL, "quiet=true", "train.validate_every=1"]
    main([*start, "run.id=cpu", "train.meta_iterations=3"])
    main([*start, "run.id=moved", "train.meta_iterations=1"])
    moved, go_on = RunFolder(tmp_path / "runs/nav2d/moved"), ["train", "quiet=true", "run.resume=runs/nav2d/moved"]
    with trainers_use_it(monkeypatch):
        main([*go_on, "train.meta_iterations=2", GPU])
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)
    config, _ = open_run(moved.path)
    assert config.trainer["accelerator"] == "gpu"
    assert adapt_from(config, moved.last_checkpoint, LEARNED, steps=1, split="test").rows
    main([*go_on, "train.meta_iterations=3", "trainer.accelerator=cpu"])
    assert_same_run(moved, RunFolder(tmp_path / "runs/nav2d/cpu"))


def test_a_tensor_without_a_device_in_the_updates_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(advantages, "_steps", lambda done: torch.arange(done.shape[-2])[:, None])
    train(RunFolder(tmp_path / "cpu"))
    with trainers_use_it(monkeypatch), pytest.raises(MixedDevicesError):
        train(RunFolder(tmp_path / "device"), GPU)


def test_the_updates_are_on_the_device_and_the_worlds_are_not(tmp_path, monkeypatch):
    config = load_experiment("nav2d", [*SMALL, "rollout.workers=2"])
    with open_module(config) as module, pretend():
        tasks = build_datamodule(config).splits["train"][:2]
        before = module.adapt(tasks, 1, ("test",))[-1]
        assert module.threads.number == 2
        module.to(DEVICE)
        after = module.adapt(tasks, 1, ("test",))[-1]
        assert module.threads.number == 1
        held = [*module.parameters(), *module.buffers(), after.theta, *after.rollout.values(True, True)]
        assert all(isinstance(x, PretendTensor) for x in [*held, *vars(after.data).values()])
        assert not any(isinstance(x, PretendTensor) for x in module.rollouts.env.reset().values(True, True))
        assert torch.equal(after.theta.cpu(), before.theta)
        taken = limit_step(module.actor, module.actor.vector(), after.data, max_kl=None)
        assert all(isinstance(x, PretendTensor) for x in taken)


def test_the_pretend_device_refuses_what_a_gpu_refuses():
    with pretend():
        there, here = torch.ones(3, device=DEVICE), torch.ones(3)
        assert ((there + here.sum()) * 2).cpu().tolist() == [8.0] * 3
        refusals = [
            lambda: there + here,
            lambda: here.add_(there),
            lambda: torch.stack([there.sum(), here.sum()]),
            lambda: there[torch.arange(2)],
            lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()),
        ]
        for refusal in refusals:
            with pytest.raises(MixedDevicesError):
                refusal()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()


def test_without_a_gpu_a_run_on_one_is_refused_and_auto_takes_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: False)
    for name in ("gpu", "cuda"):
        printed = refused("train", "exp=nav2d", *DISABLED, f"trainer.accelerator={name}", cwd=tmp_path)
        assert f"trainer.accelerator is {name}, but PyTorch {torch.__version__} finds no CUDA device here" in printed
        assert "set trainer.accelerator=cpu" in printed
    assert not list(tmp_path.iterdir())
    config = load_experiment("nav2d", [*DISABLED, "trainer.accelerator=auto"])
    assert isinstance(build_trainer(config, RunFolder(tmp_path)).accelerator, CPUAccelerator)


CHOICES = {"1": False, "[1]": False, "2": True, "[0,1]": True, "auto": True}
"""trainer.devices, of a machine with two GPUs -> whether it takes several of them."""


@pytest.mark.parametrize(("devices", "several"), CHOICES.items())
def test_with_gpus_lightning_is_asked_for_them_and_several_talk_by_nccl(devices, several, tmp_path, monkeypatch):
    asked = {}

    def note(**arguments):
        asked.update(arguments)
        raise ValueError("this is enough")

    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: True)
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", lambda: 2)
    monkeypatch.setattr(assembly, "Trainer", create_autospec(Trainer, side_effect=note))
    for accelerator in ("gpu", "auto"):
        overrides = [*DISABLED, f"trainer.accelerator={accelerator}", f"trainer.devices={devices}"]
        with pytest.raises(UserError, match="this is enough"):
            build_trainer(load_experiment("nav2d", overrides), RunFolder(tmp_path))
        assert asked["accelerator"] == "cuda"
        backend = getattr(asked["strategy"], "process_group_backend", None)
        assert backend == ("cpu:gloo,cuda:nccl" if several else None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_gpu_computes_what_the_cpu_computes_up_to_rounding(tmp_path):
    for name in ("cpu", "gpu"):
        cmaml("train", "exp=nav2d", *TINY, *DISABLED, f"run.id={name}", f"trainer.accelerator={name}", cwd=tmp_path)
    cpu, gpu = (RunFolder(tmp_path / "runs/nav2d" / name) for name in ("cpu", "gpu"))
    ours, theirs = lines(gpu.metrics)[0], lines(cpu.metrics)[0]
    for name in ("pre/return", "pre/cost", "post/return", "inner/kl", "outer/gradient_norm", "safety_critic/loss"):
        assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-2, abs=1e-4), name
    expected = final_state(cpu.path)
    for name, value in final_state(gpu.path).items():  # Adam's step is 1e-3 whatever the size of the gradient
        torch.testing.assert_close(value, expected[name], rtol=1e-2, atol=5e-3, msg=name)
