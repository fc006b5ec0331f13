"""The algorithm has to solve a small problem, over several seeds."""

import pytest
import torch

from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.config import load
from cmaml_pl.runs import RunFolder

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
        config = load("nav2d", [*overrides, "train.validate_every=1000"])
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
