"""Any single TorchRL environment as one batched environment; worker processes step its worlds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from cmaml_pl.envs.faults import Faults, cost_function
from cmaml_pl.envs.worker import World
from cmaml_pl.envs.worker_env import WorkerEnv
from cmaml_pl.errors import UserError
from cmaml_pl.imports import import_maker, told
from cmaml_pl.task import Task

NEEDED = {"_reset": "what TorchRL needs", "_step": "what TorchRL needs"}
"""Method of an environment -> what it takes and gives."""


class TorchRLEnv(WorkerEnv):
    """Worlds of a TorchRL environment, batch size [tasks, envs], distributed over worker processes.

    An environment is made anew for each task that has other parameters. World i draws from a stream of its own, and so
    do environments that draw from torch's global random numbers.

    Args:
        make: MODULE:NAME of what gives an environment with batch size [], see TorchRLFamily.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps after which an episode is truncated.
        num_workers: see WorkerEnv.
        reveal: see TaskEnv.
        options: keywords of `make`; a task's parameters override those of the same name.
        observation_key: key of the observation, nested by dots.
        cost_key: key of a step's cost beside its reward, nested by dots, or MODULE:FUNCTION, a function of the step's
            tensordict; None if nothing costs.

    Raises:
        UserError: the environment cannot be made, or its first step fails or lacks what is needed.
    """

    def __init__(
        self,
        make: str,
        num_tasks: int,
        num_envs: int,
        *,
        horizon: int,
        num_workers: int | None = None,
        reveal: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
        observation_key: str = "observation",
        cost_key: str | None = "cost",
    ) -> None:
        make_world = partial(TorchRLWorld, make, dict(options or {}), horizon, observation_key, cost_key)
        make_world().try_out()  # what is wrong with it is said here, not in a worker
        super().__init__(make_world, make, num_tasks, num_envs, horizon=horizon, num_workers=num_workers, reveal=reveal)


class TorchRLWorld(World):
    """One TorchRL environment; the arguments are those of TorchRLEnv."""

    def __init__(
        self, make: str, options: dict[str, Any], horizon: int, observation_key: str, cost_key: str | None
    ) -> None:
        self._path, self._options, self._horizon = make, options, horizon
        self._make = import_maker("tasks.make", make, EnvBase)
        self._observation_key = tuple(observation_key.split("."))
        self._cost = _read_cost(cost_key, make)
        self._task: Mapping[str, float] = {}
        self._seed: int | None = 0  # some make what they draw from only when they are seeded
        self._env = self._make_env(options)
        self._faults = Faults(f"tasks.make is {make!r}", type(self._env), NEEDED)
        action = _vector(f"its action {self._env.action_key!r}", self._env.action_spec, make)
        self.low, self.high = _ends(action)
        self._action_dtype = action.dtype
        observation = self._env.full_observation_spec.get(self._observation_key, None)
        if observation is None:
            known = ", ".join(map(_dotted, self._env.full_observation_spec.keys(True, True)))
            raise UserError(f"tasks.observation_key is {observation_key!r}, but {make} has only {known}: name one.")
        self.observation_size = _vector(f"its {observation_key!r} (tasks.observation_key)", observation, make).shape[0]

    def try_out(self) -> None:
        """Take one step, and close the world.

        Raises:
            UserError: it fails.
        """
        self.reset()
        self.step(np.clip(np.zeros_like(self.low), self.low, self.high))
        self.close()

    def set_task(self, task: Task) -> None:
        """See World."""
        if dict(task.parameters) != self._task:
            self._task = dict(task.parameters)
            self.close()
            self._env = self._make_env({**self._options, **self._task})
            self._seed = self._seed or 0

    def seed(self, seed: int) -> None:
        """See World."""
        self._seed = seed

    def reset(self) -> NDArray[Any]:
        """See World."""
        try:
            with self._own_numbers():
                if self._seed is not None:
                    torch.manual_seed(self._seed)
                    self._env.set_seed(self._seed)
                    self._seed = None  # later resets go on with the stream
                self._state, self._steps = self._env.reset(), 0
            first = self._state[self._observation_key]
        except Exception as error:  # noqa: BLE001  (the user's environment may raise anything)
            raise self._faults.raised("_reset", error) from None
        return self._faults.vector("_reset", first, self.observation_size)

    def step(self, action: NDArray[np.float32]) -> dict[str, Any]:
        """See World."""
        taken = torch.from_numpy(action).to(self._action_dtype)
        try:
            with self._own_numbers():
                step = self._env.step(self._state.set(self._env.action_key, taken))
            after = step["next"]
            done, terminated = (bool(after[key]) for key in ("done", "terminated"))
            observation, reward = after[self._observation_key], after[self._env.reward_key]
            self._state = self._env.step_mdp(step)
        except Exception as error:  # noqa: BLE001  (the user's environment may raise anything)
            raise self._faults.raised("_step", error) from None
        self._steps += 1
        return {
            "observation": self._faults.vector("_step", observation, self.observation_size),
            "reward": self._faults.number("_step", "reward", reward),
            "cost": self._cost(step),
            "terminated": terminated,
            "truncated": (done and not terminated) or self._steps >= self._horizon,
        }

    def close(self) -> None:
        """See World."""
        self._env.close(raise_if_closed=False)

    def _make_env(self, options: Mapping[str, Any]) -> EnvBase:
        self._numbers = torch.Generator().get_state()  # always the same: what is made does not depend on the past
        try:
            with self._own_numbers():
                env = self._make(**options)
        except Exception as error:  # noqa: BLE001  (the user's code may raise anything)
            given = f" with {', '.join(options)} of tasks.options and tasks.parameters" if options else ""
            raise UserError(f"tasks.make is {self._path!r}, which fails{given}: {told(error)}.") from None
        _check(env, self._path)
        return env

    @contextmanager
    def _own_numbers(self) -> Iterator[None]:
        """Let torch's global random numbers be this world's own, so that no world depends on its neighbours."""
        others = torch.get_rng_state()
        torch.set_rng_state(self._numbers)
        try:
            yield
        finally:
            self._numbers = torch.get_rng_state()
            torch.set_rng_state(others)


def _check(env: Any, path: str) -> None:
    """Raise a UserError unless `env` is one environment with one action, one reward and one end of an episode."""
    if not isinstance(env, EnvBase):
        raise UserError(f"tasks.make is {path!r}, but gives {type(env).__name__}: a TorchRL environment is needed.")
    if env.batch_size:
        raise UserError(
            f"tasks.make is {path!r}, but gives an environment with batch size {list(env.batch_size)}: a single one, "
            "with batch size [], is needed; cmaml_pl makes as many as a batch has worlds."
        )
    if env.device is not None and env.device.type != "cpu":
        raise UserError(f"tasks.make is {path!r}, but gives an environment on {env.device}: it must be on the cpu.")
    for name, keys in (("action", env.action_keys), ("reward", env.reward_keys)):
        if len(keys) != 1:
            named = ", ".join(map(_dotted, keys)) or "none"
            raise UserError(f"tasks.make is {path!r}, but its {name}s are {named}: exactly one {name} is needed.")
    if env.full_reward_spec[env.reward_key].shape.numel() != 1:
        shape = list(env.full_reward_spec[env.reward_key].shape)
        raise UserError(f"tasks.make is {path!r}, but its reward has the shape {shape}: [1] is needed.")
    lacking = [key for key in ("done", "terminated") if key not in env.done_keys]
    if lacking:
        named = ", ".join(map(_dotted, env.done_keys))
        raise UserError(f"tasks.make is {path!r}, but its ends of an episode are {named}: {lacking[0]} is needed.")


def _vector(what: str, spec: TensorSpec, path: str) -> TensorSpec:
    if not isinstance(spec, Bounded | Unbounded) or len(spec.shape) != 1 or not spec.dtype.is_floating_point:
        kind = f"{type(spec).__name__}, {list(spec.shape)}, {spec.dtype}"
        raise UserError(f"tasks.make is {path!r}, but {what} is {kind}: a vector of real numbers is needed.")
    return spec


def _ends(spec: TensorSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest value, (A,); infinite if there is none."""
    if isinstance(spec, Bounded):
        return spec.space.low.float().numpy(), spec.space.high.float().numpy()
    return np.full(spec.shape, -np.inf, np.float32), np.full(spec.shape, np.inf, np.float32)


def _dotted(key: str | tuple[str, ...]) -> str:
    return key if isinstance(key, str) else ".".join(key)


def _read_cost(cost_key: str | None, path: str) -> Callable[[TensorDictBase], float]:
    """The function of a step's tensordict that `cost_key` names."""
    if cost_key is None:
        return lambda step: 0.0
    if ":" in cost_key:
        return cost_function("tasks.cost_key", cost_key)
    key = tuple(cost_key.split("."))

    def read(step: TensorDictBase) -> float:
        value: Tensor | None = step["next"].get(key)
        if value is None or value.numel() != 1:
            known = ", ".join(_dotted(name) for name, leaf in step["next"].items(True, True) if leaf.numel() == 1)
            raise UserError(
                f"tasks.cost_key is {cost_key!r}, but the numbers of a step of {path} are {known}: name one, a "
                "function, MODULE:FUNCTION, or null if nothing costs."
            )
        return float(value)

    return read
