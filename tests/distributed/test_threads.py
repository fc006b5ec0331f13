"""Threads that share rows."""

import threading

import pytest
import torch

from cmaml_pl.distributed.threads import RowThreads


@pytest.mark.parametrize(("number", "rows"), [(1, 5), (2, 5), (3, 5), (8, 5), (3, 0)])
def test_every_row_is_computed_once_and_in_order(number, rows):
    threads = RowThreads(number)
    parts = threads.map(lambda part: list(range(rows)[part]), rows)
    assert [row for part in parts for row in part] == list(range(rows))
    assert len(parts) == max(1, min(number, rows // 2))  # a part has two rows at least
    threads.close()


def test_parts_run_side_by_side_and_each_thread_uses_pytorch_as_the_caller_does():
    threads, both = RowThreads(2), threading.Barrier(2, timeout=60)

    def meet(part):
        both.wait()  # which only two threads at a time can pass
        return torch.get_num_threads()

    assert threads.map(meet, 4) == [torch.get_num_threads()] * 2
    threads.close()


def test_what_fails_in_a_thread_is_raised():
    threads = RowThreads(2)
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda: 1, lambda: 1 // 0)
    threads.close()
