import itertools

import pytest

from cmaml_pl.data import MetaBatchSampler, TaskDataModule
from cmaml_pl.registry import TASK_FAMILIES
from cmaml_pl.tasks.families import Nav2DFamily, split_tasks

SPLITS = ("train", "validation", "test")


@pytest.fixture(params=sorted(TASK_FAMILIES))
def family(request):
    return TASK_FAMILIES[request.param]()


def test_splits_have_their_sizes_and_never_overlap(family):
    tasks = {split: split_tasks(family, split, cost_limit=3.0) for split in SPLITS}
    for split in SPLITS:
        assert len(tasks[split]) == getattr(family, split)
    for a, b in itertools.combinations(SPLITS, 2):
        assert not {t.id for t in tasks[a]} & {t.id for t in tasks[b]}
        assert not {t.layout_seed for t in tasks[a]} & {t.layout_seed for t in tasks[b]}


def test_a_task_is_the_same_whenever_it_is_asked_for(family):
    assert family.task(5, cost_limit=3.0) == family.task(5, cost_limit=3.0)
    assert family.task(5, cost_limit=3.0) != family.task(6, cost_limit=3.0)
    assert family.task(5, cost_limit=3.0).cost_limit == 3.0
    assert family.task(5, cost_limit=3.0).family == family.family


def test_meta_batches_depend_on_the_seed_and_the_iteration_alone():
    def batch(seed: int, epoch: int) -> list[int]:
        sampler = MetaBatchSampler(50, 6, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batch(0, 3) == batch(0, 3)
    assert batch(0, 3) != batch(0, 4)
    assert batch(0, 3) != batch(1, 3)
    assert len(set(batch(0, 3))) == 6


def test_the_data_module_serves_lists_of_tasks():
    data = TaskDataModule(Nav2DFamily(train=10, validation=5, test=3), tasks_per_batch=4, cost_limit=2.0, seed=0)
    (train,) = list(data.train_dataloader())
    assert len(train) == 4
    validation = list(data.val_dataloader())
    assert [len(batch) for batch in validation] == [4, 1]
    assert [task.id for batch in validation for task in batch] == [10, 11, 12, 13, 14]
    assert [task.id for batch in data.test_dataloader() for task in batch] == [15, 16, 17]
