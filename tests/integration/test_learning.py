"""The algorithm has to solve a small problem, over several seeds."""

import pytest
import torch

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.runs.folder import RunFolder

SEEDS = (0, 1, 2)


def measure(module, tasks, theta):
    stages = module.adapt(tasks, 3, ("test", 0), theta=theta)
    return stages[-1].data.episode_return.mean(), stages[-1].data.episode_cost.mean()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """For each seed, (return, cost) after three inner steps from the learned and from the random initialisation."""
    found = []
    for seed in SEEDS:
        overrides = [f"seed={seed}", "run.id=x", "logger.wandb=disabled", "train.meta_iterations=20"]
        config = load_experiment("nav2d", [*overrides, "train.validate_every=1000"])
        folder = RunFolder(tmp_path_factory.mktemp("run"))
        with open_module(config) as module:
            random = module.actor.vector()
            datamodule = build_datamodule(config)
            build_trainer(config, folder).fit(module, datamodule)
            tasks = datamodule.splits["test"][: config.train.tasks_per_batch]
            found.append((measure(module, tasks, module.actor.vector()), measure(module, tasks, random)))
    return torch.tensor(found)  # (seeds, initialisation, quantity)


def test_the_learned_initialisation_adapts_further_and_more_safely_than_a_random_one(results):
    (learned, learned_cost), (random, random_cost) = results.unbind(dim=1)[0].T, results.unbind(dim=1)[1].T
    assert (random > 0).all(), results  # even a random one gets closer to the goal
    assert (learned > 1.15 * random).all(), results
    assert learned.mean() > 1.4 * random.mean(), results
    assert learned_cost.mean() < random_cost.mean(), results


@pytest.mark.parametrize("seed", SEEDS)
def test_pretraining_solves_the_only_task_there_is(seed, tmp_path):
    """One task, whose goal can be learned by heart: the meta-policy itself goes there, before any adaptation."""
    # a limit of 10: at 3 seed 0 stops in front of the hazards, which is safe and worth 0.2
    tiny = [
        "inner.cost_limit=10",
        "tasks.train=1",
        "train.tasks_per_batch=1",
        "train.meta_iterations=40",
        "rollout.envs_per_task=40",
    ]
    config = load_experiment("nav2d", ["arm=pretrain", f"seed={seed}", "logger.wandb=disabled", *tiny])
    folder = RunFolder(tmp_path)
    with open_module(config) as module:
        build_trainer(config, folder).fit(module, build_datamodule(config))
    rows = read_metrics(folder.metrics)
    assert rows[-1]["pre/return"] > 0.35 + rows[0]["pre/return"], rows
    assert rows[-1]["pre/cost"] < max(2 * config.inner.cost_limit, rows[0]["pre/cost"]), rows
