"""From a run to a module that works in Python."""

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from tests.integration.runs import TINY

from cmaml_callbacks import BestCheckpoint, LastCheckpoint
from cmaml_pl import load_run
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.configuration.loading import load_experiment, store
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.errors import UserError
from cmaml_pl.runs.checkpoint_io import AtomicCheckpointIO
from cmaml_pl.runs.checkpoints import load_checkpoint
from cmaml_pl.runs.folder import RunFolder

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run, its tasks, and what its module adapts to when training ends."""
    config = load_experiment("nav2d", ["run.id=a", "logger.wandb=disabled", "quiet=true", *TINY])
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "nav2d/a")
    folder.path.mkdir(parents=True)
    store(config, folder.config)
    datamodule = build_datamodule(config)
    with open_module(config) as module:
        module.save_hyperparameters(flatten(config))
        build_trainer(config, folder).fit(module, datamodule)
        tasks = datamodule.splits["test"]
        return folder, tasks, module.adapt(tasks, 2, ("later",)), float(module.eta)


@pytest.mark.parametrize("kind", ["run folder", "checkpoint", "text"])
def test_a_loaded_module_adapts_as_the_one_that_was_trained(kind, trained):
    folder, tasks, expected, eta = trained
    path = folder.last_checkpoint if kind == "checkpoint" else folder.path
    module, datamodule = load_run(str(path) if kind == "text" else path)
    with contextlib.closing(module):
        assert datamodule.splits["test"] == tasks
        found = module.adapt(tasks, 2, ("later",))
        assert float(module.eta) == eta > 0
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine.theta, other.theta)
        assert torch.equal(mine.rollout["next", "reward"], other.rollout["next", "reward"])


def test_a_loaded_module_can_be_trained_and_tested_by_a_trainer(trained, tmp_path):
    folder, *_ = trained
    config = load_experiment("nav2d", ["run.id=a", "logger.wandb=disabled", "quiet=true", *TINY])
    module, datamodule = load_run(folder.path)
    before = module.actor.vector()
    build_trainer(config, RunFolder(tmp_path)).fit(module, datamodule)
    assert not torch.equal(module.actor.vector(), before)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False, inference_mode=False
    )
    (metrics,) = trainer.test(module, datamodule, verbose=False)
    assert {"test/post/return", "test/post/cost", "test/pre/cost"} <= metrics.keys()
    module.close()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_run(tmp_path)


def test_lightnings_own_way_says_which_one_works(trained):
    folder, *_ = trained
    with pytest.raises(NotImplementedError, match=r"cmaml_pl\.load_run"):
        CMAML.load_from_checkpoint(folder.last_checkpoint)


def test_the_readmes_lines_of_python_work(trained, monkeypatch):
    folder, *_ = trained
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert 'load_run("runs/nav2d/RUN_ID")' in code
    found = {}
    exec(code.replace("runs/nav2d/RUN_ID", str(folder.path)), found)
    assert len(found["stages"]) == 4
    assert load_checkpoint(folder.path).iterations == 2


WATCH = "examples.own_parts.watch:OverLimit"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"trainer.callbacks={WATCH}", r"trainer\.callbacks is '.*OverLimit', but must be a list"),
        ("trainer.callbacks=[watch]", r"trainer\.callbacks has 'watch', but must have MODULE:CLASS, or \{class:"),
        (
            f"trainer.callbacks=[{{name: {WATCH}}}]",
            r"trainer\.callbacks has \{'name': .*\}, but must have MODULE:CLASS",
        ),
        (
            f"trainer.callbacks=[{WATCH[:-1]}]",
            r"trainer\.callbacks is '.*OverLimi', which cannot be imported: .*OverLimi",
        ),
        ("trainer.callbacks=[torch:Tensor]", r"must have classes that inherit from lightning\.pytorch\..*\.Callback"),
        (
            f"trainer.callbacks=[{{class: {WATCH}, slak: 1}}]",
            r"cannot be made: TypeError: .*'slak'.* Did you mean slack\?",
        ),
        (f"trainer.callbacks=[{WATCH},{WATCH}]", r"more than one stateful callback of type `OverLimit`"),
        (f"logger.others=[{WATCH}]", r"logger\.others has '.*OverLimit', but must have .*\.Logger"),
        ("logger.tensorboard=true", r"logger\.tensorboard is true, but .* is missing: pip install tensorboard"),
    ],
)
def test_what_is_no_callback_or_logger_is_refused_by_name(override, message, tmp_path, monkeypatch):
    for package in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning.fabric.loggers.tensorboard.{package}", False)
    with pytest.raises(UserError, match=message):
        build_trainer(load_experiment("nav2d", ["logger.wandb=disabled", override]), RunFolder(tmp_path))


def test_callbacks_of_ones_own_come_after_the_projects_and_before_the_checkpoints(tmp_path):
    config = load_experiment("nav2d", ["logger.wandb=disabled", f"trainer.callbacks=[{{class: {WATCH}, slack: 2}}]"])
    trainer = build_trainer(config, RunFolder(tmp_path))
    *_, own, last, best = trainer.callbacks
    assert (type(own).__name__, own.slack) == ("OverLimit", 2)
    assert (type(last), type(best)) == (LastCheckpoint, BestCheckpoint)


def test_tensorboard_gets_the_metrics_beside_metrics_csv(tmp_path):
    pytest.importorskip("tensorboardX")
    overrides = ["logger.wandb=disabled", "quiet=true", "logger.tensorboard=true", *TINY]
    config, folder = load_experiment("nav2d", overrides), RunFolder(tmp_path)
    with open_module(config) as module:
        module.save_hyperparameters(flatten(config))
        build_trainer(config, folder).fit(module, build_datamodule(config))
    (events,) = tmp_path.glob("tensorboard/events.*")
    assert b"post/return" in events.read_bytes()
    assert len(folder.metrics.read_text().splitlines()) == 3


def test_a_state_that_no_checkpoint_is_read_with_is_refused_by_name(tmp_path):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"callbacks": {"Mine": {"best": None}}}, path)  # what it keeps changes its type later
    with pytest.raises(UserError, match=r"trainer\.callbacks: the state_dict of Mine cannot go into .* float\(x\)"):
        io.save_checkpoint({"callbacks": {"Mine": {"best": np.float64(1.0)}}}, path)
    assert list(tmp_path.iterdir()) == [path]
    assert torch.load(path, weights_only=True) == {"callbacks": {"Mine": {"best": None}}}


def test_the_one_before_is_kept_of_the_last_checkpoint_alone(tmp_path):
    io = AtomicCheckpointIO()
    for name in ("last", "best", "a_users_own"):
        for number in (1, 2):
            io.save_checkpoint({"number": number}, tmp_path / f"{name}.ckpt")
    kept = {path.stem: torch.load(path, weights_only=True)["number"] for path in tmp_path.iterdir()}
    assert kept == {"last": 2, "previous": 1, "best": 2, "a_users_own": 2}
