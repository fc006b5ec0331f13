"""Lightning's DDP for a module that brings its ranks together itself.

It relies on private parts of Lightning, since nothing public lets a program say what happens when one of the processes
that Lightning started has ended:

- the launcher that starts them: `_SubprocessScriptLauncher`, its `_call_children_scripts` and `procs`;
- the thread that watches them: `_ChildProcessObserver`, its `_terminate_all`;
- the place where a strategy chooses its launcher: `_configure_launcher`.

tests/distributed/test_strategy.py and tests/integration/test_ranks.py notice a change.
"""

import os
from collections.abc import Callable
from threading import Event
from typing import Any

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import Tensor

from cmaml_pl.distributed.ranks import loss_of_others

GRACE = 30.0
"""Seconds for training to end by itself once another process has; as torchrun's and SLURM's."""


class PatientObserver(_ChildProcessObserver):
    """Kills the processes of this machine when one has ended badly, if the loss does not end the training.

    Lightning's kills them whenever it next looks, in at most 5 s: before or after the first process has met the loss in
    a message, has said so, and has closed its files and its W&B run.

    Attributes:
        trained: to be set when training has ended in the first process.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trained = Event()

    def _terminate_all(self) -> None:
        if not self.trained.wait(GRACE):
            super()._terminate_all()


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's, which runs this command once more for every further process; the module sets their threads."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if self.cluster_environment.creates_processes_externally:
            return function(*args, **kwargs)
        self._call_children_scripts()
        observer = PatientObserver(os.getpid(), self.procs, sleep_period=1)
        observer.start()
        try:
            return function(*args, **kwargs)
        finally:
            observer.trained.set()


class RanksStrategy(DDPStrategy):
    """Processes and their group as in Lightning's DDP, by gloo, without DistributedDataParallel around the module.

    That would average the gradients of every backward pass, each time of all parameters. Here the meta-gradient is no
    backward pass's, and each critic has a backward pass of its own: what has to be brought together, and with which
    weights, is known where it is computed (`cmaml_pl.distributed.ranks`). Parameters start alike, from the seed or the
    checkpoint.
    """

    def __init__(self) -> None:
        super().__init__(process_group_backend="gloo")

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def configure_ddp(self) -> None:
        """Leave the module as it is."""

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's, which does not say what has happened when another rank is gone; so with the two below."""
        with loss_of_others(self.global_rank, self.world_size):
            super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """As `barrier`."""
        with loss_of_others(self.global_rank, self.world_size):
            return super().broadcast(obj, src)

    def reduce(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As `barrier`."""
        with loss_of_others(self.global_rank, self.world_size):
            return super().reduce(tensor, *args, **kwargs)
