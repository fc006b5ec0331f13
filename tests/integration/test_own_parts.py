"""Parts of a user's own, outside the package: the example in examples/own_parts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.commands import ROOT, cmaml
from tests.integration.runs import DISABLED, lines

from cmaml_pl.configuration.registry import TASK_FAMILIES

EXAMPLE = ROOT / "examples/own_parts"
TINY = [
    "tasks.validation=2",
    "train.tasks_per_batch=2",
    "rollout.envs_per_task=2",
    "rollout.horizon=10",
    "tasks.test=2",
    "rollout.workers=1",
]


@pytest.fixture
def here(tmp_path):
    """A folder that has only the example's files."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "own", ignore=shutil.ignore_patterns("runs", "__pycache__")))


def test_all_parts_together_train_resume_and_adapt(here):
    every = "trainer.callbacks=[{class: watch:OverLimit, slack: -1000}]"  # counts every meta-iteration
    family = ["tasks.family=weather:Weather", "tasks.storms=0.5"]
    method = ["inner.method=penalty:FixedPenalty", "inner.weight=0.25"]
    network = ["policy.actor=network:Residual", "policy.options.width=16"]
    start = ["exp=point_mass.yaml", "run.id=a", *family, *method, *network, *TINY, *DISABLED]
    cmaml("train", *start, every, "train.meta_iterations=1", cwd=here)
    more = "logger.others=[lightning.pytorch.loggers:CSVLogger]"
    assert "2/2" in cmaml("train", *start, "run.resume=auto", more, "train.meta_iterations=2", cwd=here)
    folder = here / "runs/point_mass/a"
    rows = lines(folder / "metrics.csv")
    assert [(row["iteration"], float(row["watch/over_limit"])) for row in rows] == [("1", 1), ("2", 2)]
    assert [float(row["lambda/mean"]) for row in rows] == [0.25, 0.25]  # the penalty's weight
    (logged,) = folder.glob("lightning_logs/*/metrics.csv")
    assert "2.0" in [row["watch/over_limit"] for row in lines(logged)]
    cmaml("evaluate", "run=runs/point_mass/a", "steps=1", cwd=here)
    assert len(lines(folder / "evaluation.csv")) == 2 * 2 * 2  # arms, tasks, steps
    refused = cmaml("export", "ckpt=runs/point_mass/a", cwd=here, code=2)
    assert "policy.actor=network:Residual: load it in Python" in refused


def test_the_experiment_without_them_has_the_environment_and_the_callback(here):
    printed = cmaml("config", "exp=point_mass.yaml", cwd=here)
    assert "make: point_mass:PointMass" in printed
    assert "class: watch:OverLimit" in printed


def test_a_share_of_the_tasks_has_a_storm():
    family = TASK_FAMILIES["examples.own_parts.weather:Weather"](storms=0.3)
    winds = np.array([family.task(i, cost_limit=1.0).parameters["wind"] for i in range(1000)])
    assert abs((np.abs(winds) > 0.4).mean() - 0.3) < 0.05
    assert abs((winds > 0).mean() - 0.5) < 0.05
    assert np.abs(winds).max() <= 0.8
