"""Batches of tasks for Lightning."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from cmaml_pl.seeding import derive_generator
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import TaskFamily, split_tasks


class MetaBatchSampler(Sampler[int]):
    """Indices of one meta-batch, drawn without replacement; Lightning names the meta-iteration by `set_epoch`.

    Args:
        num_tasks: training tasks.
        tasks_per_batch: B, at most `num_tasks`.
        seed: the configuration's seed. Batch i depends on (seed, i) alone, so a resumed run draws what it would have.
    """

    def __init__(self, num_tasks: int, tasks_per_batch: int, *, seed: int) -> None:
        self.num_tasks, self.tasks_per_batch, self.seed = num_tasks, tasks_per_batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the meta-iteration, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """B."""
        return self.tasks_per_batch

    def __iter__(self) -> Iterator[int]:
        """The indices of this meta-iteration's tasks."""
        generator = derive_generator(self.seed, "tasks", self.epoch)
        yield from torch.randperm(self.num_tasks, generator=generator)[: self.tasks_per_batch].tolist()


class TaskDataModule(LightningDataModule):
    """Serves lists of tasks; an epoch is one meta-batch.

    Args:
        family: where tasks come from.
        tasks_per_batch: B.
        cost_limit: d, undiscounted cost per episode.
        seed: the configuration's seed.
    """

    def __init__(self, family: TaskFamily, *, tasks_per_batch: int, cost_limit: float, seed: int) -> None:
        super().__init__()
        self.tasks_per_batch, self.seed = tasks_per_batch, seed
        self.splits = {
            split: split_tasks(family, split, cost_limit=cost_limit) for split in ("train", "validation", "test")
        }

    def train_dataloader(self) -> DataLoader[Task]:
        """One meta-batch of training tasks."""
        sampler = MetaBatchSampler(len(self.splits["train"]), self.tasks_per_batch, seed=self.seed)
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Task]:
        """All validation tasks; the last batch may be short."""
        return self._loader("validation", None)

    def test_dataloader(self) -> DataLoader[Task]:
        """All test tasks; the last batch may be short."""
        return self._loader("test", None)

    def transfer_batch_to_device(self, batch: list[Task], device: torch.device, dataloader_idx: int) -> list[Task]:
        """Tasks are descriptions, not tensors: nothing to move."""
        return batch

    def _loader(self, split: str, sampler: Sampler[int] | None) -> DataLoader[Task]:
        tasks = self.splits[split]
        return DataLoader(
            tasks,  # type: ignore[arg-type]
            batch_size=self.tasks_per_batch,
            sampler=sampler,
            collate_fn=list,
            generator=torch.Generator(),  # there are no workers to seed; the default draws globally all the same
        )
