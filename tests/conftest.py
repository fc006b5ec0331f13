"""How the suite is run, and what every test leaves as it was."""

import logging
import os
import signal
import sys
from pathlib import Path

# One thread a process: the networks are small, and there are as many processes as cores. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _leave_no_trace_in_global_randomness():
    """Everything random is derived from a seed: a test that moves the global generator has found a leak."""
    state = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), state), "the code under test drew from torch's global generator"


@pytest.fixture(autouse=True)
def _put_back_what_a_process_has_once():
    """The verbs, which many tests run in this process, change it: whatever one test does, no other may fail for it.

    Filters of warnings are put back by pytest itself.
    """
    folder, environment, threads = Path.cwd(), dict(os.environ), torch.get_num_threads()
    loggers = [logging.getLogger(name) for name in ("", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    yield
    if "wandb" in sys.modules:
        # it keeps the run that it has begun last, reads the environment once, and has a service in a test's folder
        sys.modules["wandb"].finish()
        sys.modules["wandb"].teardown()
    os.chdir(folder)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    torch.set_num_threads(threads)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def without_pictures(monkeypatch):
    """They take longer than a tiny training."""
    from cmaml_callbacks import LearningCurves

    monkeypatch.setattr(LearningCurves, "draw", lambda *_: None)
