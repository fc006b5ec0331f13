"""Handlers of signals that stop a study."""

import os
import signal

import pytest

from cmaml_pl.studies.stops import StopRequest, handling, stopping_at_requeue_signal


def test_handlers_are_those_of_before_after_the_block():
    found = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    with handling(before, lambda number, frame: found.append(number)):
        for number in before:
            os.kill(os.getpid(), number)
    assert found == list(before)
    assert {number: signal.getsignal(number) for number in before} == before


def test_slurms_signal_stops_the_block_once_and_its_handler_is_that_of_before(monkeypatch):
    for name in ("JOB_ID", "JOB_NAME", "NTASKS"):
        monkeypatch.setenv(f"SLURM_{name}", "1")
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(StopRequest) as stop, stopping_at_requeue_signal():
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stop.value.number == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before
