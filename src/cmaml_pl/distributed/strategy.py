"""Lightning's DDP for a module that combines the results of its ranks itself.

It uses private parts of Lightning, because nothing public lets a program decide what happens when one of the processes
that Lightning started has ended:

- the launcher that starts them: `_SubprocessScriptLauncher`, its `_call_children_scripts` and `procs`;
- the thread that watches them: `_ChildProcessObserver`, its `_terminate_all`;
- the place where a strategy chooses its launcher: `_configure_launcher`.

tests/distributed/test_strategy.py and tests/integration/test_ranks.py fail if Lightning changes these parts.
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
"""Seconds that training has to end by itself after another process has ended; the same as for torchrun and SLURM."""


class PatientObserver(_ChildProcessObserver):
    """Kills the processes of this machine after one of them has failed, unless training ends by itself within GRACE.

    Lightning's own observer kills them at its next check, within 5 s. By then the first process may not yet have
    noticed the lost process, told the user, and closed its files and its W&B run.

    Attributes:
        trained: event that the launcher sets when training has ended in the first process.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trained = Event()

    def _terminate_all(self) -> None:
        if not self.trained.wait(GRACE):
            super()._terminate_all()


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher, which runs this command again for each further process, but with PatientObserver.

    It does not set the number of threads, which `assembly.open_module` does.
    """

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


BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Accelerator -> PyTorch's backend of communication. nccl sends what lies on GPUs, and gloo what lies on the CPU:
counts of rows, flags, and Lightning's objects."""


class RanksStrategy(DDPStrategy):
    """Starts and connects processes as Lightning's DDP does, but does not use DistributedDataParallel.

    DistributedDataParallel would average the gradients of all parameters in every backward pass. This does not fit: the
    meta-gradient is not the gradient of one backward pass, and each critic has a backward pass of its own. Instead, the
    code that computes a result combines it over the ranks with the right weights (`cmaml_pl.distributed.ranks`). All
    ranks start with the same parameters, from the seed or the checkpoint.

    Args:
        accelerator: one of BACKENDS; each process has a device of its own.
    """

    def __init__(self, accelerator: str = "cpu") -> None:
        super().__init__(process_group_backend=BACKENDS[accelerator])

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def configure_ddp(self) -> None:
        """Does nothing, so that the module is not wrapped in DistributedDataParallel."""

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Lightning's barrier, but a UserError says so if another rank has ended."""
        with loss_of_others(self.global_rank, self.world_size):
            super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Lightning's broadcast, with the UserError of `barrier`."""
        with loss_of_others(self.global_rank, self.world_size):
            return super().broadcast(obj, src)

    def reduce(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Lightning's reduce, with the UserError of `barrier`."""
        with loss_of_others(self.global_rank, self.world_size):
            return super().reduce(tensor, *args, **kwargs)
