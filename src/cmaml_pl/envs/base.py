"""What a batched environment of this project is."""

from abc import abstractmethod
from collections.abc import Sequence

from torchrl.envs import EnvBase

from cmaml_pl.tasks.task import Task


class TaskEnv(EnvBase):
    """A TorchRL environment with batch size [tasks, envs] whose tasks can be exchanged between rollouts.

    Row p of the batch runs `envs` worlds of task p. Keys: ``observation`` (tasks, envs, D) float32, ``action``
    (tasks, envs, A) float32, ``("next", "reward")`` and ``("next", "cost")`` (tasks, envs, 1) float32, ``done``,
    ``terminated`` and ``truncated`` (tasks, envs, 1) bool. An episode is truncated after `horizon` steps.
    """

    horizon: int

    @abstractmethod
    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give row p of the batch the task ``tasks[p]``, from the next reset on and for all later ones."""
