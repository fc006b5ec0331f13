"""A tiny problem, and what its runs leave."""

import csv
from pathlib import Path

import torch

from cmaml_pl.runs.folder import RunFolder

TINY = [
    "train.meta_iterations=2",
    "train.tasks_per_batch=2",
    "train.validate_every=2",
    "tasks.train=4",
    "tasks.validation=3",
    "tasks.test=2",
    "rollout.envs_per_task=2",
    "rollout.horizon=20",
    "inner.steps=1",
    # so that lambda, eta and the safety term have work
    "inner.cost_limit=0",
    "safety.dead_band=false",
    "safety.eta_lr=0.05",
]
DISABLED = ["logger.wandb=disabled"]


def lines(path: Path) -> list[dict[str, str]]:
    """Of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def done(folder: RunFolder) -> int:
    """Meta-iterations that are recorded."""
    return len(lines(folder.metrics)) if folder.metrics.exists() else 0


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the last checkpoint of a run."""
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return state


def assert_same_parameters(folder: RunFolder, expected: RunFolder) -> None:
    """To the bit."""
    ours, theirs = final_state(folder.path), final_state(expected.path)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def assert_same_run(folder: RunFolder, expected: RunFolder) -> None:
    """The same parameters and the same metrics, but for the speed."""
    assert_same_parameters(folder, expected)
    ours, theirs = (
        [{name: cell for name, cell in line.items() if name != "throughput/env_steps_per_s"} for line in lines(path)]
        for path in (folder.metrics, expected.metrics)
    )
    assert ours == theirs
