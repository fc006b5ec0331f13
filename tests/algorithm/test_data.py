"""Which tasks are in a meta-batch, and what serves them."""

from collections import Counter

import pytest
import torch
from tests.integration.runs import TINY

from cmaml_pl.algorithm.data import MetaBatchSampler, TaskDataModule
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.seeding import derive_generator
from cmaml_pl.tasks.nav2d import Nav2DFamily


def test_meta_batches_depend_on_the_seed_and_the_iteration_alone():
    def batch(seed: int, epoch: int) -> list[int]:
        sampler = MetaBatchSampler(50, 6, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batch(0, 3) == batch(0, 3)
    assert batch(0, 3) != batch(0, 4)
    assert batch(0, 3) != batch(1, 3)
    assert len(set(batch(0, 3))) == 6


@pytest.mark.parametrize(("distinct", "often"), [(1, {6}), (4, {1, 2}), (6, {1}), (50, {1})])
def test_with_fewer_tasks_than_a_batch_all_are_about_equally_often_in_it(distinct, often):
    drawn = list(MetaBatchSampler(distinct, 6, seed=0))
    counts = Counter(drawn)
    assert len(drawn) == 6
    assert (set(counts.values()), len(counts)) == (often, min(distinct, 6))
    assert set(counts) <= set(range(distinct))
    if distinct >= 6:  # the bits of before
        everything = torch.randperm(distinct, generator=derive_generator(0, "tasks", 0))
        assert drawn == everything[:6].tolist()


def test_distinct_tasks_restrict_training_alone_and_a_repeated_task_has_worlds_of_its_own():
    configs = [load_experiment("nav2d", [*TINY, f"train.distinct_tasks={n}"]) for n in ("null", 1)]
    everything, one = (build_datamodule(config) for config in configs)
    assert one.splits == everything.splits
    (batch,) = list(one.train_dataloader())
    assert [task.id for task in batch] == [0] * 2
    assert len({task.id for batch in everything.train_dataloader() for task in batch}) == 2
    with open_module(configs[1]) as module:
        (stage,) = module.adapt(batch, 0, ("train", 0))
    first, second = stage.rollout
    for name in ("observation", "action"):
        assert not (first[name] == second[name]).all(dim=-1).any()


def test_the_data_module_serves_lists_of_tasks():
    data = TaskDataModule(Nav2DFamily(train=10, validation=5, test=3), tasks_per_batch=4, cost_limit=2.0, seed=0)
    (train,) = list(data.train_dataloader())
    assert len(train) == 4
    validation = list(data.val_dataloader())
    assert [len(batch) for batch in validation] == [4, 1]
    assert [task.id for batch in validation for task in batch] == [10, 11, 12, 13, 14]
    assert [task.id for batch in data.test_dataloader() for task in batch] == [15, 16, 17]
