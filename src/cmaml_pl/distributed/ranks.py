"""The processes (ranks) that share a meta-batch: each adapts to its own tasks, and their results are combined."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor

from cmaml_pl.errors import UserError


@dataclass(eq=False)
class Ranks:
    """The place of this process among the processes of a run, and what they compute together.

    By default there is only this process, and nothing is sent. Rank r holds the r-th of `size` equal parts of every
    batch of tasks. All ranks have to call the same methods in the same order. A result over all ranks is equal to the
    bit on all of them, and on the device of what it is computed from; numbers of rows are sent from the CPU.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local: number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 1
    _seconds: float = field(default=0.0, init=False)
    _messages: int = field(default=0, init=False)

    def part(self, rows: int) -> slice:
        """The rows of this rank among the rows of all ranks, if every rank has `rows` rows."""
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def draw(self, sample: Callable[..., Tensor], shape: Sequence[int], *, generator: torch.Generator) -> Tensor:
        """Random numbers for this rank's rows, in `shape`.

        They are the numbers that a single process with the rows of all ranks would draw for these rows.

        Args:
            sample: torch.rand or torch.randn.
            shape: shape of this rank's numbers, (rows, ...).
            generator: random generator, in the same state on all ranks.
        """
        rows, *rest = shape
        return sample((rows * self.size, *rest), generator=generator)[self.part(rows)]

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor, in place, by its sum over the ranks; all tensors have one dtype and share a message."""
        if self.size == 1:
            return
        packed = torch.cat([tensor.detach().flatten() for tensor in tensors])
        self._communicate(lambda: dist.all_reduce(packed))
        for tensor, piece in zip(tensors, packed.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(piece.view_as(tensor))

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over the rows of all ranks, (rows, ...) -> (...); ranks may have different numbers of rows, or none."""
        return self.average(rows.mean(dim=0), len(rows))

    def average(self, mean: Tensor, rows: int) -> Tensor:
        """Mean over the rows of all ranks, from the `mean` over this rank's `rows` rows; ignored if there are none."""
        if self.size == 1:
            return mean
        total = mean * rows if rows else torch.zeros_like(mean)
        count = total.new_tensor(float(rows))
        self.sum_([total, count])
        return total / count

    def moments(self, rows: Tensor) -> tuple[int, Tensor, Tensor]:
        """Number, mean and variance of the rows of all ranks, (rows, ...) -> (), (...), (...)."""
        mean = self.mean(rows)
        return self.total(len(rows)), mean, self.mean((rows - mean) ** 2)

    def place(self, rows: int) -> tuple[int, int]:
        """The index of this rank's first row among the rows of all ranks, and the number of all rows."""
        counts = [int(n) for n in self._all_gather(torch.tensor([rows]))] if self.size > 1 else [rows]
        return sum(counts[: self.rank]), sum(counts)

    def total(self, number: int) -> int:
        """The sum of `number` over the ranks."""
        return self.place(number)[1]

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, (rows, ...) -> (all rows, ...); the ranks may have different numbers of rows."""
        if self.size == 1:
            return rows
        counts = self._all_gather(torch.tensor([len(rows)]))
        longest = int(max(counts))
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        return torch.cat([piece[: int(n)] for piece, n in zip(self._all_gather(padded), counts, strict=True)])

    def _all_gather(self, rows: Tensor) -> list[Tensor]:
        """The rows of each rank; every rank must have the same number of rows."""
        pieces = [torch.empty_like(rows) for _ in range(self.size)]
        self._communicate(lambda: dist.all_gather(pieces, rows.contiguous()))
        return pieces

    def require_same(self, configuration: str) -> None:
        """Check that all ranks have the same `configuration`.

        Raises:
            UserError: the configurations differ.
        """
        told = self.gather(torch.tensor([crc32(configuration.encode())]))
        if (told != told[0]).any():
            raise UserError(
                "The processes of this run were given different configurations: start each by the same command, and "
                "name the run by run.id."
            )

    def take_communication(self) -> tuple[float, int]:
        """Seconds spent in communication, including waiting for slower ranks, and messages, since the last call."""
        taken, self._seconds, self._messages = (self._seconds, self._messages), 0.0, 0
        return taken

    def _communicate(self, send: Callable[[], object]) -> None:
        started = time.perf_counter()
        with loss_of_others(self.rank, self.size):
            send()
        self._seconds += time.perf_counter() - started
        self._messages += 1


@contextmanager
def loss_of_others(rank: int, size: int) -> Iterator[None]:
    """Within the block, turn the error of a lost connection to other ranks into a UserError.

    Raises:
        UserError: another rank has ended.
    """
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            f"Rank {rank} of {size} has lost the others ({str(error).split('. ')[0]}). One of them has ended: see what "
            "it says, and go on from the last checkpoint."
        ) from None


ALONE = Ranks()
"""The ranks of a run with a single process."""
