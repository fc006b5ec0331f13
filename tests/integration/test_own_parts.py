"""Parts of a user's own, outside the package: the example in examples/own_parts."""

import shutil
from pathlib import Path

import pytest
from tests.commands import cmaml
from tests.integration.runs import DISABLED, lines

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/own_parts"
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


def test_an_environment_a_network_and_a_callback_train_resume_and_adapt(here):
    every = "trainer.callbacks=[{class: watch:OverLimit, slack: -1000}]"  # counts every meta-iteration
    network = ["policy.actor=network:Residual", "policy.options.width=16"]
    start = ["exp=point_mass.yaml", "run.id=a", *network, *TINY, *DISABLED]
    cmaml("train", *start, every, "train.meta_iterations=1", cwd=here)
    more = "logger.others=[lightning.pytorch.loggers:CSVLogger]"
    assert "2/2" in cmaml("train", *start, "run.resume=auto", more, "train.meta_iterations=2", cwd=here)
    folder = here / "runs/point_mass/a"
    rows = lines(folder / "metrics.csv")
    assert [(row["iteration"], float(row["watch/over_limit"])) for row in rows] == [("1", 1), ("2", 2)]
    (logged,) = folder.glob("lightning_logs/*/metrics.csv")
    assert "2.0" in [row["watch/over_limit"] for row in lines(logged)]
    cmaml("evaluate", "run=runs/point_mass/a", "steps=1", cwd=here)
    assert len(lines(folder / "evaluation.csv")) == 2 * 2 * 2  # arms, tasks, steps
    refused = cmaml("export", "ckpt=runs/point_mass/a", cwd=here, code=2)
    assert "policy.actor=network:Residual: take it in Python" in refused
