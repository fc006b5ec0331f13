"""Threads that share the tasks of an update, whose rows never mix."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


class RowThreads:
    """Computes rows in several threads; PyTorch releases the interpreter's lock while it computes.

    The results do not depend on the number of threads, but for the last bits of some recurrent networks. PyTorch's own
    threads are no substitute: for layers of 64 units they cost more than they save, and they wait for work by spinning,
    which slows down the physics.

    Args:
        number: largest number of threads.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[slice], Result], rows: int, *, least: int = 2) -> list[Result]:
        """The results of `function` for consecutive parts of `rows` rows; without rows, for one empty part.

        Args:
            function: computes a part.
            rows: number of rows.
            least: rows that a part has at least, if there are so many. For a single row PyTorch sums in another order.
        """
        parts = min(self.number, max(rows // least, 1))
        if parts == 1:
            return [function(slice(0, rows))]
        if self._pool is None:
            own = torch.get_num_threads()  # a new thread would otherwise use as many of PyTorch's as there are cores
            self._pool = ThreadPoolExecutor(self.number, initializer=torch.set_num_threads, initargs=(own,))
        ends = [rows * i // parts for i in range(parts + 1)]
        return list(self._pool.map(function, map(slice, ends[:-1], ends[1:])))

    def each(self, *functions: Callable[[], Result]) -> list[Result]:
        """The results of some functions."""
        parts = self.map(lambda part: [function() for function in functions[part]], len(functions), least=1)
        return [result for part in parts for result in part]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


ONE_THREAD = RowThreads()
"""No further threads."""
