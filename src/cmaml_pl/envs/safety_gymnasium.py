"""Safety-Gymnasium's own tasks, by id, as one batched environment; worker processes step its worlds."""

import multiprocessing.connection
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torchrl.envs import ParallelEnv

from cmaml_pl.envs.base import TaskEnv, set_specs, state_tensordict
from cmaml_pl.envs.safety_gymnasium_ids import check_env_id, usable_cores
from cmaml_pl.envs.safety_gymnasium_worker import start_worker
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

THINGS = r"agent|goal|push_box|(hazard|vase|pillar|button|gremlin)\d+(?:obj)?"
"""Pattern of the names of the bodies that `positions` gives. Its group matches the kind of bodies with a number."""


class ParallelSafetyEnv(TaskEnv):
    """Worlds of one Safety-Gymnasium task, batch size [tasks, envs], distributed over worker processes.

    A task's layout seed seeds Safety-Gymnasium on every reset, also on automatic ones. So all episodes of a task start
    from the same layout, and new goals are drawn from the same random stream. Nothing else is random.

    In addition to the keys of TaskEnv there is ``cost`` (tasks, envs, 1) float32, which is 0 after a reset; the cost of
    a step is ("next", "cost"). It is an indicator, 0 or 1, unless the id's task defines it otherwise. Actions are
    clipped to the action space, [-1, 1] in each component, when they are given to a world; the batch keeps them as the
    unbounded policy drew them. A step in which MuJoCo fails truncates the episode, with a cost of 1 and the task's
    `reward_exception` as reward.

    Workers run until `close` is called, the object is deleted, or the interpreter ends.

    Args:
        env_id: Safety-Gymnasium id, e.g. SafetyPointGoal1-v0.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps after which an episode is truncated; at most the id's own limit.
        num_workers: largest number of worker processes; None for one per usable core. Fewer are started if only then
            every worker has the same number of worlds.

    Raises:
        UserError: Safety-Gymnasium is missing, has no such id, or ends the id's episodes before `horizon`.
    """

    def __init__(
        self, env_id: str, num_tasks: int, num_envs: int, horizon: int = 1000, num_workers: int | None = None
    ) -> None:
        super().__init__(batch_size=torch.Size([num_tasks, num_envs]))
        self.is_closed = True  # until the workers are started: before that there is nothing to close
        check_env_id(env_id, horizon)
        self.horizon = horizon
        self.env_id = env_id
        self.num_workers = usable_workers(num_tasks * num_envs, num_workers)
        self._threads = torch.get_num_threads()
        # set through __dict__, because nn.Module would register the pool as a submodule
        self.__dict__["_pool"] = _start_workers(env_id, num_tasks * num_envs, num_envs, horizon, self.num_workers)
        self._processes = list(self._pool._workers)
        self._perform = self._pool.perform  # looked up once, because ParallelEnv lists all its attributes to find it
        self.is_closed = False
        bounds = self._pool.action_spec.space  # (workers, share, A), equal for all worlds
        observation_size = self._pool.full_observation_spec["observation"].shape[-1]
        set_specs(self, observation_size=observation_size, low=bounds.low[0, 0], high=bounds.high[0, 0])

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.parameters:
                names = ", ".join(task.parameters)
                raise UserError(f"task {task.id} has parameters ({names}), which only NavigationEnv can give an agent.")
        self._ask_workers("set_layouts", [task.layout_seed for task in tasks])

    def body_positions(self) -> list[list[dict[str, NDArray[np.float64]]]]:
        """Name of a body -> its current position, (3,), m, for every world [task][env]."""
        worlds = [world for share in self._ask_workers("body_positions") for world in share]
        num_envs = self.batch_size[1]
        return [worlds[i : i + num_envs] for i in range(0, len(worlds), num_envs)]

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """See TaskEnv. The kinds are named as NavigationEnv names them."""
        worlds = [world for share in self._ask_workers("body_positions") for world in share]
        kinds: dict[str, list[str]] = {}
        for body in worlds[0]:
            thing = re.fullmatch(THINGS, body)
            if thing:
                kinds.setdefault(f"{thing[1]}s" if thing[1] else body, []).append(body)
        kinds.setdefault("agent", list(worlds[0])[1:2])  # body 0 is the world; a velocity task's robot is body 1
        return {
            kind: np.array([[world[body][:2] for body in bodies] for world in worlds]).reshape(*self.batch_size, -1, 2)
            for kind, bodies in kinds.items()
        }

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        chosen = np.ones(self.batch_size.numel(), np.bool_)
        if tensordict is not None and "_reset" in tensordict.keys():
            chosen = tensordict["_reset"].reshape(-1).cpu().numpy()
        return self._gather("reset_worlds", chosen).exclude("reward", "failed")

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        actions = tensordict["action"].detach().flatten(0, 1).cpu().numpy()
        state = self._gather("step_worlds", actions)
        self.failures += int(state["failed"].sum())
        return state.exclude("failed")

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
                f"A worker process of {self.env_id} has ended (exit code {exits}; -9 is often a machine short of "
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
        """Does nothing, because a task's layout seed determines everything that its worlds draw."""

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


def _start_workers(env_id: str, num_worlds: int, num_envs: int, horizon: int, num_workers: int) -> ParallelEnv:
    """Start `num_workers` worker processes, each with an equal share of the worlds."""
    share = num_worlds // num_workers
    return ParallelEnv(
        num_workers,
        partial(start_worker, env_id, num_envs, horizon, share),
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
    multiprocessing.set_forkserver_preload(["torchrl.envs", "cmaml_pl.envs.safety_gymnasium_worker"])
    return "forkserver"


def _kill(process: Any) -> None:
    try:
        process.kill()
        process.join()
    except ValueError:  # the process has ended, and ParallelEnv has already released it
        pass
