"""The common base of the environments whose worlds are stepped by worker processes."""

import multiprocessing.connection
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded
from torchrl.envs import ParallelEnv

from cmaml_pl.cores import usable_cores
from cmaml_pl.envs.base import TaskEnv, set_specs, state_tensordict
from cmaml_pl.envs.worker import MakeWorld, start_worker
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task


class WorkerEnv(TaskEnv):
    """Worlds of one kind, batch size [tasks, envs], distributed over worker processes.

    In addition to the keys of TaskEnv there is ``cost`` (tasks, envs, 1) float32, which is 0 after a reset; the cost of
    a step is ("next", "cost"). Actions are clipped to the action space when they are given to a world; the batch keeps
    them as the unbounded policy drew them.

    Workers run until `close` is called, the object is deleted, or the interpreter ends.

    Args:
        make: makes a world, in a worker.
        name: what the worlds are, for messages.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps after which an episode is truncated.
        num_workers: largest number of worker processes; None for one per usable core. Fewer are started if only then
            every worker has the same number of worlds.
        reveal: see TaskEnv.
    """

    divides_numbers = True

    def __init__(
        self,
        make: MakeWorld,
        name: str,
        num_tasks: int,
        num_envs: int,
        *,
        horizon: int,
        num_workers: int | None,
        reveal: Sequence[str] = (),
    ) -> None:
        super().__init__(batch_size=torch.Size([num_tasks, num_envs]))
        self.is_closed = True  # until the workers are started: before that there is nothing to close
        self.horizon, self.name, self.reveal = horizon, name, tuple(reveal)
        self.num_workers = usable_workers(num_tasks * num_envs, num_workers)
        self._threads = torch.get_num_threads()
        start = partial(start_worker, make, name, num_envs, num_tasks * num_envs // self.num_workers)
        # set through __dict__, because nn.Module would register the pool as a submodule
        self.__dict__["_pool"] = _start_workers(start, self.num_workers)
        self._processes = list(self._pool._workers)
        self._perform = self._pool.perform  # looked up once, because ParallelEnv lists all its attributes to find it
        self.is_closed = False
        actions = self._pool.action_spec  # (workers, share, A), equal for all worlds
        ends = (actions.space.low[0, 0], actions.space.high[0, 0]) if isinstance(actions, Bounded) else None
        low, high = ends or (torch.full(actions.shape[-1:], end) for end in (-torch.inf, torch.inf))
        observation_size = self._pool.full_observation_spec["observation"].shape[-1] + len(self.reveal)
        set_specs(self, observation_size=observation_size, low=low, high=high)

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        self._ask_workers("set_world_tasks", list(tasks))

    def body_positions(self) -> list[dict[str, NDArray[np.float64]]]:
        """Name of a body -> its current position, (3,), m, for every world."""
        return [world for share in self._ask_workers("body_positions") for world in share]

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        chosen = np.ones(self.batch_size.numel(), np.bool_)
        if tensordict is not None and "_reset" in tensordict.keys():
            chosen = tensordict["_reset"].reshape(-1).cpu().numpy()
        return self._seen(self._gather("reset_worlds", chosen)).exclude("reward", "failed")

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        actions = tensordict["action"].detach().flatten(0, 1).cpu().numpy()
        state = self._gather("step_worlds", actions)
        self.failures += int(state["failed"].sum())
        return self._seen(state).exclude("failed")

    def _seen(self, state: TensorDict) -> TensorDict:
        return state.set("observation", self._with_revealed(state["observation"]))

    def _gather(self, method: str, argument: NDArray[Any]) -> TensorDict:
        """Call a method of all workers, and join the arrays (share, ...) that they return to (tasks, envs, ...)."""
        shares = self._ask_workers(method, argument)
        return state_tensordict(
            {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}, self.batch_size
        )

    def _ask_workers(self, method: str, *arguments: Any) -> list[Any]:
        """Each worker's result of a method of WorldShare, in the order of the worlds.

        This uses ParallelEnv's way to call any method of its workers' environments. ParallelEnv's `step` would work as
        well, but packs TensorDicts, which takes 5 ms for 32 worlds instead of 0.5 ms; stepping the worlds of PointGoal1
        takes 16 ms. With shared buffers, `step` would wait in a busy loop, on a core that the workers need.
        """
        if self.is_closed:
            raise RuntimeError("the environment is closed")
        try:
            results: list[Any] = self._perform(method, *arguments)
        except (EOFError, OSError) as error:
            # a process closes its pipe before it has an exit code, so wait for its end
            multiprocessing.connection.wait([process.sentinel for process in self._processes], timeout=1.0)
            exits = [process.exitcode for process in self._processes if not process.is_alive()]
            self.close()
            raise UserError(
                f"A worker process of {self.name} has ended (exit code {exits}; -9 is often a machine short of "
                "memory): lower rollout.workers or the batch, and go on from the last checkpoint."
            ) from error
        except BaseException:
            # Interrupted between a call and its results: a later call would take a result left in a pipe for its own.
            self.close()
            raise
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def _set_seed(self, seed: int | None) -> None:
        """Seed the worlds; a row's numbers do not depend on the number of processes."""
        if seed is not None:
            tasks, envs = self.batch_size
            self._ask_workers("seed_worlds", seed + self.ranks.part(tasks).start * envs)

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the worker processes; on a closed environment this does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        try:
            self._pool.close()
        except (RuntimeError, ValueError, OSError):  # if a worker is dead, ParallelEnv stops half-way
            self._pool.is_closed = True
            for process in self._processes:
                _kill(process)
        torch.set_num_threads(self._threads)  # ParallelEnv changes this process's number of threads when it closes


def usable_workers(num_worlds: int, most: int | None = None) -> int:
    """Number of worker processes: the largest divisor of `num_worlds` up to `most` (None: number of usable cores)."""
    if most is None:
        most = usable_cores()
    if most < 1:
        raise UserError(f"rollout.workers is {most}; give at least 1, or null for one a usable core.")
    return max(n for n in range(1, min(most, num_worlds) + 1) if num_worlds % n == 0)


def _start_workers(start: Any, num_workers: int) -> ParallelEnv:
    """Start `num_workers` worker processes, each with an equal share of the worlds."""
    return ParallelEnv(
        num_workers,
        start,
        create_env_kwargs=[{"index": index} for index in range(num_workers)],
        mp_start_method=_start_method(),
        daemon=True,  # the workers end with the interpreter, however it ends
        metadata_from_workers=True,  # no world is built in this process
        use_buffers=False,
        num_threads=torch.get_num_threads(),  # keeps this process's number of threads
        num_sub_threads=1,
    )


def _start_method() -> str:
    """The start method of the worker processes: "forkserver" if the platform has it, otherwise "spawn".

    Forking this process is not safe: torch, Lightning and W&B run threads in it, and a child would inherit their locks
    while they are held. A spawned worker imports torch anew, which keeps all cores busy for seconds. The fork server
    imports torch once, and every further worker of this program then starts in a fraction of a second.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["torchrl.envs", "cmaml_pl.envs.worker"])
    return "forkserver"


def _kill(process: Any) -> None:
    try:
        process.kill()
        process.join()
    except ValueError:  # the process has ended, and ParallelEnv has already released it
        pass
