"""Any Gymnasium environment as one batched environment; worker processes step its worlds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmaml_pl.envs.faults import Faults, cost_function
from cmaml_pl.envs.safety_gymnasium_import import without_farama_notices
from cmaml_pl.envs.worker import World
from cmaml_pl.envs.worker_env import WorkerEnv
from cmaml_pl.errors import UserError
from cmaml_pl.imports import find_here, told
from cmaml_pl.task import Task

with without_farama_notices():
    import gymnasium
    from gymnasium.spaces import Box


NEEDED = {
    "reset": "reset(seed=None, options=None) -> (observation, info)",
    "step": "step(action) -> (observation, reward, terminated, truncated, info)",
}
"""Method of an environment -> what it takes and gives."""


class GymnasiumEnv(WorkerEnv):
    """Worlds of a Gymnasium environment, batch size [tasks, envs], distributed over worker processes.

    The parameters of a task are given to the environment as keywords of its constructor, or as its attributes. World i
    draws from a stream of its own: its first reset after a `set_seed` gets the seed `seed` + i.

    Args:
        env_id: Gymnasium id; with "MODULE:ID" the module is imported first, which registers the id.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps after which an episode is truncated.
        num_workers: see WorkerEnv.
        reveal: see TaskEnv.
        options: keywords of the constructor that all tasks share.
        given_as: "keywords" of the constructor, or "attributes", which are set before a reset.
        cost: the key of a step's `info` that holds its cost, or MODULE:FUNCTION, a function (observation, action,
            reward, info) -> cost; None if nothing costs.

    Raises:
        UserError: there is no such environment, or its observations or actions are not vectors of numbers.
    """

    def __init__(
        self,
        env_id: str,
        num_tasks: int,
        num_envs: int,
        *,
        horizon: int,
        num_workers: int | None = None,
        reveal: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        given_as: str = "attributes",
        cost: str | None = None,
    ) -> None:
        make = partial(GymnasiumWorld, env_id, dict(options or {}), horizon, given_as, cost)
        make().close()  # what is wrong with it is said here, not in a worker
        super().__init__(make, env_id, num_tasks, num_envs, horizon=horizon, num_workers=num_workers, reveal=reveal)


class GymnasiumWorld(World):
    """One Gymnasium environment; the arguments are those of GymnasiumEnv."""

    def __init__(self, env_id: str, options: dict[str, Any], horizon: int, given_as: str, cost: str | None) -> None:
        self._make = partial(_make, env_id, horizon)
        self._env_id, self._options, self._given_as = env_id, options, given_as
        self._cost = _read_cost(cost, env_id)
        self._seed: int | None = None
        self._task: Mapping[str, float] = {}
        self._env: Any = self._make(options)
        self._faults = Faults(f"tasks.env_id is {env_id!r}", type(self._env.unwrapped), NEEDED)
        actions = _vectors(env_id, "actions", self._env.action_space)
        self.low, self.high = (np.asarray(end, np.float32) for end in (actions.low, actions.high))
        self.observation_size = len(_vectors(env_id, "observations", self._env.observation_space).low)

    def set_task(self, task: Task) -> None:
        """See World."""
        given = dict(task.parameters)
        if self._given_as == "keywords" and given != self._task:
            self._env.close()
            self._env = self._make({**self._options, **given})
        self._task = given

    def seed(self, seed: int) -> None:
        """See World."""
        self._seed = seed

    def reset(self) -> NDArray[Any]:
        """See World."""
        if self._given_as == "attributes":
            for name, value in self._task.items():
                if not hasattr(self._env.unwrapped, name):
                    raise UserError(f"tasks.parameters has {name}, but {self._env_id} has no attribute of this name.")
                setattr(self._env.unwrapped, name, value)
        try:
            observation, _ = self._env.reset(seed=self._seed)
        except Exception as error:  # noqa: BLE001  (the user's environment may raise anything)
            raise self._faults.raised("reset", error) from None
        self._seed = None  # later resets go on with the stream
        return self._faults.vector("reset", observation, self.observation_size)

    def step(self, action: NDArray[np.float32]) -> dict[str, Any]:
        """See World."""
        try:
            observation, reward, terminated, truncated, info = self._env.step(action)
            ends = {"terminated": bool(terminated), "truncated": bool(truncated)}
        except Exception as error:  # noqa: BLE001  (the user's environment may raise anything)
            raise self._faults.raised("step", error) from None
        return {
            "observation": self._faults.vector("step", observation, self.observation_size),
            "reward": self._faults.number("step", "reward", reward),
            "cost": self._faults.number("step", "cost", self._cost(observation, action, reward, info)),
            **ends,
        }

    def close(self) -> None:
        """See World."""
        self._env.close()


def _vectors(env_id: str, name: str, space: gymnasium.Space[Any]) -> Box:
    if not isinstance(space, Box) or len(space.low.shape) != 1:
        raise UserError(f"tasks.env_id is {env_id!r}, but its {name} are {space}: vectors (Box) are needed.")
    return space


def _make(env_id: str, horizon: int, options: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    find_here()
    try:
        return gymnasium.make(env_id, max_episode_steps=horizon, disable_env_checker=True, **options)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (the user's environment may raise anything)
        given = f" with {', '.join(options)} of tasks.options and tasks.parameters" if options else ""
        raise UserError(f"tasks.env_id is {env_id!r}, which Gymnasium cannot make{given}: {told(error)}.") from None


def _read_cost(cost: str | None, env_id: str) -> Callable[..., Any]:
    """The function (observation, action, reward, info) -> cost that `cost` names."""
    if cost is None:
        return lambda *step: 0.0
    if ":" in cost:
        return cost_function("tasks.cost", cost)

    def read(observation: Any, action: Any, reward: Any, info: Any) -> Any:
        if not isinstance(info, Mapping) or cost not in info:
            known = ", ".join(map(str, info or ())) or "nothing"
            raise UserError(
                f"tasks.cost is {cost!r}, but a step of {env_id} has only {known} in its info: name a key of it, or a "
                "function, MODULE:FUNCTION."
            )
        return info[cost]

    return read
