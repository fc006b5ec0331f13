"""The private parts of Lightning that starting several processes relies on."""

import ast
from pathlib import Path

import cmaml_callbacks
import cmaml_pl
from cmaml_pl.assembly import build_trainer
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.distributed.strategy import RanksStrategy, _Launcher
from cmaml_pl.runs.folder import RunFolder

NAMED = {"_ChildProcessObserver", "_SubprocessScriptLauncher"}
"""What `cmaml_pl.distributed.strategy` names, with its reason."""


def private_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning"):
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))
            assert not any(part.startswith("_") for part in node.module.split("."))


def test_nothing_private_is_imported_from_lightning_but_what_is_named():
    packages = [Path(package.__file__).parent for package in (cmaml_pl, cmaml_callbacks)]
    files = [file for package in packages for file in package.rglob("*.py")]
    assert len(files) > 100
    assert {name for file in files for name in private_imports(file)} == NAMED


def test_lightning_takes_our_launcher_for_several_processes(tmp_path):
    config = load_experiment("nav2d", ["trainer.devices=2", "logger.wandb=disabled"])
    strategy = build_trainer(config, RunFolder(tmp_path)).strategy
    assert isinstance(strategy, RanksStrategy)
    assert isinstance(strategy.launcher, _Launcher)
    # the list of the processes that it starts, which is what it hands to the thread that watches them
    assert strategy.launcher.procs == []
