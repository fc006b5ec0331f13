"""Whatever is registered works with whatever else is registered, without anyone listing it."""

import math

import pytest
import torch

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS, TASK_FAMILIES
from cmaml_pl.errors import UserError
from cmaml_pl.runs.folder import RunFolder

TINY = [
    "train.meta_iterations=2",
    "train.tasks_per_batch=2",
    "train.validate_every=2",
    "tasks.train=4",
    "tasks.validation=2",
    "tasks.test=2",
    "rollout.envs_per_task=2",
    "rollout.horizon=12",
    "inner.steps=1",
    "logger.wandb=disabled",
    # so that lambda, eta and the safety term have work
    "inner.cost_limit=0",
    "safety.dead_band=false",
    "safety.eta=0.5",
]


METHODS = [*((inner, "fomaml") for inner in sorted(INNER_METHODS)), *(("trpo_lag", o) for o in sorted(OUTER_METHODS))]
COMBINATIONS = {(*pair, family) for pair in METHODS for family in TASK_FAMILIES} | {
    (inner, outer, "nav2d")
    for inner, adapts in INNER_METHODS.items()
    for outer, learns in OUTER_METHODS.items()
    if adapts.differentiable or not learns.differentiates
}


@pytest.mark.parametrize(("inner", "outer", "family"), sorted(COMBINATIONS))
def test_methods_and_families_train_two_iterations_together_and_validate(inner, outer, family, tmp_path):
    choice = [f"inner.method={inner}", f"outer.method={outer}", f"tasks.family={family}"]
    config = load_experiment("nav2d", [*TINY, *choice])
    folder = RunFolder(tmp_path)
    with open_module(config) as module:
        start = module.actor.vector()
        build_trainer(config, folder).fit(module, build_datamodule(config))
        moved = module.actor.vector()
    rows = read_metrics(folder.metrics)
    assert [row["iteration"] for row in rows] == [1, 2]
    assert all(math.isfinite(value) for row in rows for value in row.values()), rows
    assert {"post/return", "post/cost", "outer/kl", "val/post/return", "val/post/cost"} <= rows[-1].keys()
    # iterations, rollouts, tasks, worlds, steps: what an iteration costs is the same for every method
    assert rows[-1]["throughput/env_steps"] == 2 * 2 * 2 * 2 * 12
    assert moved.isfinite().all()
    assert not torch.equal(moved, start)


@pytest.mark.parametrize("inner", [name for name, method in INNER_METHODS.items() if not method.differentiable])
def test_a_step_without_a_derivative_is_refused_by_name_where_one_is_needed(inner):
    with pytest.raises(UserError, match=rf"inner.method={inner} has none: choose one of trpo, trpo_lag"):
        load_experiment("nav2d", [f"inner.method={inner}", "outer.method=maml"])
