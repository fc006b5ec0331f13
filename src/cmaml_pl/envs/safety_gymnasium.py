"""Safety-Gymnasium's own tasks, by id, as one batched environment whose worlds are stepped by worker processes."""

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
"""Names of the bodies whose positions are told, as a pattern; its group is the kind of those that are numbered."""


class ParallelSafetyEnv(TaskEnv):
    """Worlds of one Safety-Gymnasium task, batch size [tasks, envs], shared out to worker processes.

    A task's layout seed seeds Safety-Gymnasium on every reset, automatic ones included. So all episodes of a task start
    from one layout, and the goals that follow a reached one are drawn from one stream. Nothing else is random.

    Keys, beside those of TaskEnv: ``cost`` (tasks, envs, 1) float32, 0 after a reset, the cost of the step in
    ("next", "cost"): an indicator, 0 or 1, unless the id's task says otherwise. An action is clipped to the action
    space, [-1, 1] in each component, where it enters a world; the batch keeps it as the unbounded policy drew it.
    A step in which MuJoCo fails truncates the episode, with a cost of 1 and the task's `reward_exception`.

    Workers keep running until `close`, or until the object or the interpreter goes.

    Args:
        env_id: Safety-Gymnasium id, e.g. SafetyPointGoal1-v0.
        num_tasks: rows of the batch.
        num_envs: worlds of each task.
        horizon: steps of an episode, which the time limit truncates; at most the id's own limit.
        num_workers: most worker processes, None for one a usable core. Only as many are started as give every worker
            the same number of worlds.

    Raises:
        UserError: Safety-Gymnasium is missing, has no such id, or ends the id's episodes before `horizon`.
    """

    def __init__(
        self, env_id: str, num_tasks: int, num_envs: int, horizon: int = 1000, num_workers: int | None = None
    ) -> None:
        super().__init__(batch_size=torch.Size([num_tasks, num_envs]))
        self.is_closed = True  # until there is something to close
        check_env_id(env_id, horizon)
        self.horizon = horizon
        self.env_id = env_id
        self.num_workers = usable_workers(num_tasks * num_envs, num_workers)
        self._threads = torch.get_num_threads()
        # in __dict__, or nn.Module would take the pool for a submodule
        self.__dict__["_pool"] = _start_workers(env_id, num_tasks * num_envs, num_envs, horizon, self.num_workers)
        self._processes = list(self._pool._workers)
        self._perform = self._pool.perform  # looked up once: ParallelEnv makes a list of its attributes to find it
        self.is_closed = False
        bounds = self._pool.action_spec.space  # (workers, share, A), the same for all
        observation_size = self._pool.full_observation_spec["observation"].shape[-1]
        set_specs(self, observation_size=observation_size, low=bounds.low[0, 0], high=bounds.high[0, 0])

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            if task.parameters:
                names = ", ".join(task.parameters)
                raise UserError(f"task {task.id} has parameters ({names}), which only NavigationEnv can give an agent.")
        self._ask_workers("set_layouts", [task.layout_seed for task in tasks])

    def body_positions(self) -> list[list[dict[str, NDArray[np.float64]]]]:
        """Where the bodies of every world [task][env] are now: name -> (3,), m."""
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
        """Call a method of all workers that answers with arrays (share, ...); they come back as (tasks, envs, ...)."""
        shares = self._ask_workers(method, argument)
        return state_tensordict(
            {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}, self.batch_size
        )

    def _ask_workers(self, method: str, *arguments: Any) -> list[Any]:
        """Every worker's result of a WorldShare's method, in the order of the worlds.

        This is ParallelEnv's way to call any method of its workers' environments. Its `step` would do as well, but
        packs TensorDicts: 5 ms for 32 worlds where this takes 0.5 ms, beside 16 ms of stepping PointGoal1 itself. With
        shared buffers it would instead wait in a busy loop, on a core that the workers need.
        """
        if self.is_closed:
            raise RuntimeError("the environment is closed")
        try:
            results: list[Any] = self._perform(method, *arguments)
        except (EOFError, OSError) as error:
            # its pipe closes before a process has an exit code
            multiprocessing.connection.wait([process.sentinel for process in self._processes], timeout=1.0)
            exits = [process.exitcode for process in self._processes if not process.is_alive()]
            self.close()
            raise UserError(
                f"A worker process of {self.env_id} has ended (exit code {exits}; -9 is often a machine short of "
                "memory): lower rollout.workers or the batch, and go on from the last checkpoint."
            ) from error
        except BaseException:
            # Interrupted between question and answers: an answer left in a pipe would pass for the next question's.
            self.close()
            raise
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def _set_seed(self, seed: int | None) -> None:
        """Nothing to seed: a task's layout seed decides everything that its worlds draw."""

    def close(self, *, raise_if_closed: bool = True) -> None:
        """End the worker processes; a closed environment stays as it is."""
        if self.is_closed:
            return
        self.is_closed = True
        try:
            self._pool.close()
        except (RuntimeError, ValueError, OSError):  # with a dead worker ParallelEnv gives up half-way
            self._pool.is_closed = True
            for process in self._processes:
                _kill(process)
        torch.set_num_threads(self._threads)  # closing, ParallelEnv gives the parent its workers' threads


def usable_workers(num_worlds: int, most: int | None = None) -> int:
    """Number of worker processes: the largest divisor of `num_worlds` that is at most `most` (None: usable cores)."""
    if most is None:
        most = usable_cores()
    if most < 1:
        raise UserError(f"rollout.workers is {most}; give at least 1, or null for one a usable core.")
    return max(n for n in range(1, min(most, num_worlds) + 1) if num_worlds % n == 0)


def _start_workers(env_id: str, num_worlds: int, num_envs: int, horizon: int, num_workers: int) -> ParallelEnv:
    """One process for each of `num_workers` equal shares of the worlds."""
    share = num_worlds // num_workers
    return ParallelEnv(
        num_workers,
        partial(start_worker, env_id, num_envs, horizon, share),
        create_env_kwargs=[{"index": index} for index in range(num_workers)],
        mp_start_method=_start_method(),
        daemon=True,  # ended with the interpreter, whatever ends that
        metadata_from_workers=True,  # builds no world in this process
        use_buffers=False,
        num_threads=torch.get_num_threads(),  # leaves this process the threads that it has
        num_sub_threads=1,
    )


def _start_method() -> str:
    """How worker processes start.

    Forking this process is no choice: torch, Lightning and W&B run threads in it, whose locks a child would inherit
    held. A spawned worker imports torch anew, seconds in which all cores are busy. The fork server imports it once,
    and every further worker of this program starts from there in a fraction of a second.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["torchrl.envs", "cmaml_pl.envs.safety_gymnasium_worker"])
    return "forkserver"


def _kill(process: Any) -> None:
    try:
        process.kill()
        process.join()
    except ValueError:  # ParallelEnv has released it, which it does to those that have ended
        pass
