"""Serves batches of tasks to Lightning."""

import math
from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from cmaml_pl.seeding import derive_generator
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import TaskFamily, split_tasks


class MetaBatchSampler(Sampler[int]):
    """Draws the indices of one meta-batch; Lightning sets the meta-iteration by `set_epoch`.

    No task is drawn again before all tasks have been: with at least B tasks none is twice in a batch, and with fewer
    all are equally often in it, but for one more or less.

    Args:
        num_tasks: number of tasks to draw from.
        tasks_per_batch: B.
        seed: the configuration's seed. Batch i depends on (seed, i) only, so a resumed run draws the same batches as an
            uninterrupted one.
    """

    def __init__(self, num_tasks: int, tasks_per_batch: int, *, seed: int) -> None:
        self.num_tasks, self.tasks_per_batch, self.seed = num_tasks, tasks_per_batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the meta-iteration; the first one is 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of tasks in a meta-batch, B."""
        return self.tasks_per_batch

    def __iter__(self) -> Iterator[int]:
        """The indices of this meta-iteration's tasks."""
        generator = derive_generator(self.seed, "tasks", self.epoch)
        rounds = math.ceil(self.tasks_per_batch / self.num_tasks)
        drawn = torch.cat([torch.randperm(self.num_tasks, generator=generator) for _ in range(rounds)])
        yield from drawn[: self.tasks_per_batch].tolist()


class TaskDataModule(LightningDataModule):
    """Serves lists of tasks. A training epoch is one meta-batch.

    Args:
        family: the family that tasks are drawn from.
        tasks_per_batch: B, the number of tasks in a batch.
        cost_limit: d, cost per episode.
        seed: the configuration's seed.
        measured: the split that a meta-test is given, "test" or, for tuning, "validation".
        distinct_tasks: number of training tasks that batches are drawn from, the first ones; None for all. The splits
            do not depend on it. A task that is several times in a batch has other worlds each time.
    """

    def __init__(
        self,
        family: TaskFamily,
        *,
        tasks_per_batch: int,
        cost_limit: float,
        seed: int,
        measured: str = "test",
        distinct_tasks: int | None = None,
    ) -> None:
        super().__init__()
        self.tasks_per_batch, self.seed, self.measured = tasks_per_batch, seed, measured
        self.distinct_tasks = distinct_tasks or family.train
        self.splits = {
            split: split_tasks(family, split, cost_limit=cost_limit) for split in ("train", "validation", "test")
        }

    def train_dataloader(self) -> DataLoader[Task]:
        """Serves one meta-batch of training tasks."""
        return self._loader("train", MetaBatchSampler(self.distinct_tasks, self.tasks_per_batch, seed=self.seed))

    def val_dataloader(self) -> DataLoader[Task]:
        """Serves all validation tasks in batches; the last batch may have fewer tasks."""
        return self._loader("validation", None)

    def test_dataloader(self) -> DataLoader[Task]:
        """Serves all tasks of the measured split in batches; the last batch may have fewer tasks."""
        return self._loader(self.measured, None)

    def transfer_batch_to_device(self, batch: list[Task], device: torch.device, dataloader_idx: int) -> list[Task]:
        """The batch itself: tasks are descriptions without tensors, so there is nothing to move to a device."""
        return batch

    def _loader(self, split: str, sampler: Sampler[int] | None) -> DataLoader[Task]:
        tasks = self.splits[split]
        return DataLoader(
            tasks,  # type: ignore[arg-type]
            batch_size=self.tasks_per_batch,
            sampler=sampler,
            collate_fn=list,
            generator=torch.Generator(),  # without it the loader would draw from torch's global random numbers
        )
