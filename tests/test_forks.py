"""Forks: what they print, how they end, and what they leave alone."""

import atexit
import os
import signal
import sys
import tempfile
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch

from cmaml_pl.forks import CAN_FORK, Fork

# Python 3.12 and later say so of every fork; the threads here are those of pytest's plugins and of numerical libraries
pytestmark = [
    pytest.mark.skipif(not CAN_FORK, reason="processes are not forked here"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def begin(work, log):
    fork = Fork(work, log)
    fork.start()
    return fork


def end(fork):
    deadline = time.monotonic() + 30
    while fork.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return fork.poll()


@pytest.mark.parametrize(
    ("work", "code", "printed"),
    [
        (lambda: print("from Python"), 0, "from Python"),
        (lambda: os.system("echo from a program"), 0, "from a program"),
        (lambda: sys.exit(3), 3, ""),
        (lambda: 1 / 0, 1, "ZeroDivisionError"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL, ""),
        (lambda: print(torch.get_num_threads()), 0, "1\n"),
        (lambda: atexit.register(print, "at its end"), 0, "at its end"),
    ],
)
def test_what_it_prints_is_added_to_its_log_and_its_code_is_that_of_a_process(work, code, printed, tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    assert end(begin(work, log)) == code
    assert log.read_text().startswith("before\n")
    assert printed in log.read_text()


def test_it_leaves_what_its_parent_tidies_up(tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        assert end(begin(lambda: None, tmp_path / "log")) == 0
        assert Path(folder).is_dir()


def test_a_signal_finds_no_handler_of_its_parent(tmp_path):
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        fork = begin(lambda: time.sleep(60), tmp_path / "log")
        fork.send_signal(signal.SIGTERM)  # at once, and perhaps before it has begun
        assert end(fork) == -signal.SIGTERM
        fork.send_signal(signal.SIGTERM)  # nobody is there any more
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_fork_is_known_though_a_handler_of_its_parent_raises_as_it_begins(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    def start(fork, begin=ForkProcess.start):
        signal.raise_signal(signal.SIGUSR1)  # for this thread, where it waits until the fork is there
        begin(fork)

    monkeypatch.setattr(ForkProcess, "start", start)
    before = signal.signal(signal.SIGUSR1, stop)
    fork = Fork(lambda: time.sleep(60), tmp_path / "log")
    try:
        with pytest.raises(Stop):
            fork.start()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert fork.poll() is None
    fork.send_signal(signal.SIGKILL)
    assert end(fork) == -signal.SIGKILL
