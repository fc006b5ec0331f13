"""The interface of the project's batched environments."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Binary, Bounded, Composite, Unbounded
from torchrl.envs import EnvBase

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

Arrays = dict[str, NDArray[Any]]


class TaskEnv(EnvBase):
    """A TorchRL environment with batch size [tasks, envs]; its tasks can be replaced between rollouts.

    Row p of the batch runs `envs` worlds of task p. Keys: ``observation`` (tasks, envs, D) float32, ``action``
    (tasks, envs, A) float32, ``("next", "reward")`` and ``("next", "cost")`` (tasks, envs, 1) float32, ``done``,
    ``terminated`` and ``truncated`` (tasks, envs, 1) bool. An episode is truncated after `horizon` steps.

    Attributes:
        horizon: steps of an episode.
        failures: number of episodes so far that ended because their physics failed.
        ranks: the processes that share a batch, including this one.
        divides_numbers: whether every rank is given the same seed, and the environment itself draws the numbers of its
            own rows from it, by `ranks`. A row's numbers then do not depend on the number of ranks. Without it, as
            here, each rank is given a seed of its own.
        radii: name of a kind of things in `positions` -> radius with which figures draw it, m. A kind without a radius
            is drawn as a point.
        reveal: names of hidden values of the task that are appended to its observations, see `hidden_values`.
    """

    horizon: int
    failures: int = 0
    ranks: Ranks = ALONE
    divides_numbers: ClassVar[bool] = False
    radii: Mapping[str, float] = MappingProxyType({})
    reveal: Sequence[str] = ()
    _revealed: Tensor | None = None

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Give row p of the batch the task ``tasks[p]``; it holds from the next reset on.

        Raises:
            ValueError: the number of tasks is not the number of rows.
            UserError: a task has a parameter that the environment does not know, or one that is out of range.
        """
        if len(tasks) != self.batch_size[0]:
            raise ValueError(f"{len(tasks)} tasks were given to an environment of {self.batch_size[0]}")
        self._set_tasks(tasks)
        self._revealed = hidden_values(tasks, self.reveal)[:, None]  # (tasks, 1, names)

    def _with_revealed(self, observation: Tensor) -> Tensor:
        """An observation (tasks, envs, D) followed by what is revealed of the tasks, (tasks, envs, D + names)."""
        if not self.reveal:
            return observation
        if self._revealed is None:
            raise RuntimeError("What is hidden of a task can only be revealed of one: call set_tasks first.")
        revealed = self._revealed.to(observation.dtype).expand(*observation.shape[:-1], -1)
        return torch.cat([observation, revealed], dim=-1)

    @abstractmethod
    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        """See `set_tasks`; the number of tasks is already checked."""

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """Name -> current positions, m, (tasks, envs, things, 2), of the "agent", the "goal" and each kind of thing.

        A "target" moves: it is where the agent would be if it did what the task asks for. Positions are for figures
        only; an environment that has none, as here, gets no pictures of paths.
        """
        return {}

    def geometry(self, task: int, env: int) -> NDArray[np.float64] | None:
        """Current positions, m, and rotations to the world's frame of the geoms of one world, (geoms, 3 + 9).

        It is None if the world is no MuJoCo model, or is simulated in another process.
        """
        return None


LIMIT = "limit"
"""The name of a task's own cost limit, as a share of the configuration's, among what can be revealed."""


def hidden_values(tasks: Sequence[Task], names: Sequence[str]) -> Tensor:
    """What the tasks' worlds have and their agents do not see, float64, (tasks, names): parameters, or LIMIT.

    Raises:
        UserError: a task has no parameter of a name.
    """
    known = [{**task.parameters, LIMIT: task.limit_share} for task in tasks]
    for task, values in zip(tasks, known, strict=True):
        for name in names:
            if name not in values:
                raise UserError(f"task {task.id} has no {name!r} to reveal; it has {', '.join(values)}.")
    rows = [[values[name] for name in names] for values in known]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(tasks), len(names))


def set_specs(
    env: EnvBase, *, observation_size: int, low: Tensor, high: Tensor, dtype: torch.dtype = torch.float32
) -> None:
    """Declare the keys of `env`: their shapes, dtypes and bounds.

    Args:
        env: an environment with batch size [tasks, envs].
        observation_size: D, length of an observation.
        low: smallest action, (A,); infinite if actions are not bounded.
        high: largest action, (A,); infinite if actions are not bounded.
        dtype: dtype of observations, rewards and costs.
    """
    batch = env.batch_size
    env.observation_spec = Composite(
        observation=Unbounded((*batch, observation_size), dtype=dtype),
        cost=Unbounded((*batch, 1), dtype=dtype),
        shape=batch,
    )
    bounded = bool(low.isfinite().all() and high.isfinite().all())
    env.action_spec = (
        Bounded(low.expand(*batch, -1), high.expand(*batch, -1)) if bounded else Unbounded((*batch, len(low)))
    )
    env.reward_spec = Unbounded((*batch, 1), dtype=dtype)
    flag = Binary(n=1, shape=(*batch, 1), dtype=torch.bool)
    env.done_spec = Composite(done=flag, terminated=flag.clone(), truncated=flag.clone(), shape=batch)


def state_tensordict(
    state: Mapping[str, NDArray[Any]], batch_size: torch.Size, dtype: torch.dtype = torch.float32
) -> TensorDict:
    """The TensorDict of a batched environment, with `batch_size`; its values are copied from arrays (worlds, ...).

    Numbers get the dtype `dtype`, flags stay bool, and the key "done" is added.
    """
    keys = {}
    for name, array in state.items():
        kind = torch.bool if array.dtype == np.bool_ else dtype
        keys[name] = torch.tensor(array, dtype=kind).view(*batch_size, -1)
    keys["done"] = keys["terminated"] | keys["truncated"]
    return TensorDict(keys, batch_size)
