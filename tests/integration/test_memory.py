"""Policies that remember: every method trains them, a run goes on exactly, and they solve what needs a memory."""

from contextlib import contextmanager

import pytest
import torch
from tests.integration.runs import DISABLED, TINY, assert_same_run

from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.cli import main
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS
from cmaml_pl.evaluation.meta_test import LEARNED, adapt_from
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import open_run

pytestmark = pytest.mark.usefixtures("without_pictures")

RECALL = ["tasks.family=tests.rollout.recall:RecallFamily", "policy.context=0", *DISABLED, "quiet=true"]
MEMORY = ["policy.actor=examples.own_parts.memory:Memory", "policy.options.width=8"]
SMALL = [
    *(*TINY, *RECALL, *MEMORY, "tasks.chance=0.2", "rollout.horizon=5"),
    *("inner.cost_limit=1", "critic.hidden=[4]", "critic.passes=1"),
]


@contextmanager
def trained(folder, *overrides):
    """A module, its tasks, and the metrics of its training."""
    config = load_experiment("nav2d", overrides)
    datamodule, trainer = build_datamodule(config), build_trainer(config, RunFolder(folder))
    with open_module(config) as module:
        trainer.fit(module, datamodule)
        yield module, datamodule.splits, trainer.callback_metrics


@pytest.mark.parametrize(
    ("inner", "outer"),
    [*((name, "fomaml") for name in sorted(INNER_METHODS)), *(("trpo_lag", name) for name in sorted(OUTER_METHODS))],
)
def test_every_method_trains_them(inner, outer, tmp_path):
    settings = [*SMALL, f"inner.method={inner}", f"outer.method={outer}", "trainer.limit_val_batches=0"]
    with open_module(load_experiment("nav2d", settings)) as module:
        before = module.actor.vector()
    with trained(tmp_path, *settings, "train.meta_iterations=1") as (module, _, metrics):
        assert not torch.equal(module.actor.vector(), before)
        assert module.actor.vector().isfinite().all()
        assert metrics["health/dropped_tasks"] == 0
        assert metrics["inner/kl"] > 0


def test_a_run_goes_on_to_the_bit_and_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = ["train", "exp=nav2d", *SMALL, "deployment.method=mixture", "train.validate_every=1"]
    main([*start, "run.id=whole"])
    main([*start, "run.id=parts", "train.meta_iterations=1"])
    whole, parts = (RunFolder(tmp_path / "runs/nav2d" / name) for name in ("whole", "parts"))
    main(["train", "quiet=true", "run.resume=runs/nav2d/parts", "train.meta_iterations=2"])
    assert_same_run(parts, whole)
    assert adapt_from(open_run(whole.path)[0], whole.last_checkpoint, LEARNED, steps=1, split="test").rows


SOON = [
    *("train.meta_iterations=6", "train.tasks_per_batch=4", "tasks.train=4", "rollout.envs_per_task=16"),
    *("rollout.horizon=3", "inner.steps=2", "outer.lr=0.03", "trainer.limit_val_batches=0"),
]
"""Settings under which six meta-iterations show what can be learned."""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_they_solve_what_no_other_policy_can(seed, tmp_path_factory):
    """The squared distance of the mean action from the cue, after adaptation, where the cue is not seen any more.

    It is 0.06 to 0.14 with a memory. Without one, the best action is 0, at a distance of 1.
    """

    def distance(*actor):
        with trained(tmp_path_factory.mktemp("run"), *RECALL, *SOON, f"seed={seed}", *actor) as (module, splits, _):
            rollout = module.adapt(splits["test"][:4], 2, ("test",))[-1].rollout
        cue = rollout["observation"][:, :, :1]
        return (rollout["loc"][:, :, 1:] - cue).square().mean()

    assert distance("policy.hidden=[8]") > 0.9
    assert distance(*MEMORY) < 0.25
