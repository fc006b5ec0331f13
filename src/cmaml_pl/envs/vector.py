"""The engines' worlds as a vector environment of Gymnasium, for any library that trains on one; it needs no PyTorch."""

import atexit
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..bounds import check_choice, check_counts
from ..cores import usable_cores
from ..errors import UserError
from .locomotion_rules import Rules
from .physics import Array, Flags
from .safety_gymnasium_ids import NAMESPACE, check_env_id
from .safety_gymnasium_import import without_farama_notices
from .worlds import BatchedWorlds, Outcome

with without_farama_notices():
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.error import ClosedEnvironmentError, ResetNeeded
    from gymnasium.spaces import Box
    from gymnasium.vector import VectorEnv

Seeds = int | Sequence[int | None] | None
_SEEDS = 2**32  # as many as NumPy's legacy generator has, which draws Safety-Gymnasium's layouts


def make_vec(
    id: str,
    num_envs: int = 64,
    mode: str = "fast",
    seed: int | None = None,
    *,
    max_episode_steps: int | None = None,
    num_threads: int | None = None,
    cost: str = "info",
    render_mode: str | None = None,
) -> "EngineVectorEnv":
    """A vector environment of Gymnasium whose worlds one of the engines steps in this process.

    Args:
        id: Safety-Gymnasium id, e.g. SafetyPointGoal1-v0; `ENGINE_IDS` has those that the engines run.
        num_envs: W, number of worlds.
        mode: "exact" gives the numbers of safety_gymnasium; "fast" the same distribution, several times faster, see
            NavigationEnv. Robots on legs are exact in both.
        seed: seed of the first `reset` that is not given one; None for a random one.
        max_episode_steps: steps after which an episode is truncated, at most the id's own limit; None for this limit.
        num_threads: threads of the physics; None for one per usable core. The number does not change any result.
        cost: "info" for Gymnasium's five-tuple, with the costs in ``info["cost"]``; "return" for Safety-Gymnasium's
            six-tuple, with the costs after the rewards as well.
        render_mode: "rgb_array", or None if nothing is drawn.

    Raises:
        UserError: no engine runs the id, Safety-Gymnasium is missing, or an argument is out of its range.
    """
    check_counts(num_envs=num_envs, num_threads=num_threads)
    check_choice("mode", mode, ("fast", "exact"))
    check_choice("cost", cost, ("info", "return"))
    if render_mode is not None:
        check_choice("render_mode", render_mode, EngineVectorEnv.metadata["render_modes"])
    horizon = check_env_id(id, max_episode_steps, id_key="id", horizon_key="max_episode_steps")
    threads = usable_cores() if num_threads is None else num_threads
    worlds, original = _make_worlds(id, num_envs, sleeping=mode == "fast", horizon=horizon, num_threads=threads)
    env = EngineVectorEnv(
        worlds, num_envs, original.observation_space, original.action_space, seed, cost=cost, render_mode=render_mode
    )
    again: Any = partial(make_vec, id, mode=mode, num_threads=num_threads, cost=cost, render_mode=render_mode)
    env.spec = EnvSpec(f"{NAMESPACE}/{id}", max_episode_steps=horizon, vector_entry_point=again)
    return env


def _make_worlds(
    env_id: str, num_worlds: int, *, sleeping: bool, horizon: int, num_threads: int
) -> tuple[BatchedWorlds, Any]:
    """The worlds of an id, and safety_gymnasium's object that has its spaces."""
    if "Velocity" in env_id:
        from .locomotion.definition import read_definition as read_body
        from .locomotion.worlds import LocomotionWorlds

        body = read_body(env_id)
        return LocomotionWorlds(
            body, num_worlds, rules=Rules(), horizon=horizon, num_threads=num_threads
        ), body.original
    from .navigation.definition import read_definition as read_task
    from .navigation.worlds import NavigationWorlds

    task = read_task(env_id)
    return NavigationWorlds(task, num_worlds, horizon=horizon, num_threads=num_threads, sleeping=sleeping), task.task


class EngineVectorEnv(VectorEnv):
    """Worlds of an engine, with the interface and the automatic resets of Gymnasium's own vector environments.

    The observation of a world whose episode has ended is the first of its next episode. The last one of the ended
    episode is in ``info["final_observation"]``, and its cost, which is also in ``info["cost"]``, in
    ``info["final_info"]``. If the physics of a world fails, its episode is truncated, and its last observation is
    the one before.

    Args:
        worlds: the worlds.
        num_envs: W, their number.
        observation_space: of one world.
        action_space: of one world.
        seed: see make_vec.
        cost: see make_vec.
        render_mode: see make_vec.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012  (as Gymnasium declares it)
    _spec: EnvSpec | None = None

    def __init__(
        self,
        worlds: BatchedWorlds,
        num_envs: int,
        observation_space: Box,
        action_space: Box,
        seed: int | None,
        *,
        cost: str,
        render_mode: str | None,
    ) -> None:
        super().__init__(num_envs, observation_space, action_space)
        self.render_mode, self._cost_returned = render_mode, cost == "return"
        self._worlds, self._resources = worlds, ExitStack()
        self._painter: Any = None  # until something is drawn
        physics = worlds.physics
        fps = round(1 / (physics.frameskip * physics.model.opt.timestep))  # of real time
        self.metadata = {**self.metadata, "render_fps": fps}
        self._everywhere = np.ones(num_envs, np.bool_)
        self._actions: NDArray[Any] | None = None
        self._observation: Array | None = None
        self._seed_worlds(np.random.SeedSequence().generate_state(num_envs).tolist() if seed is None else seed)

    @property
    def spec(self) -> EnvSpec | None:
        """How the environment was made."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        # gymnasium.make_vec sets it, with keywords that version 0.29 does not pass on to an environment of this kind
        if spec is not None and spec.kwargs:
            given = ", ".join(f"{name}={value!r}" for name, value in spec.kwargs.items())
            raise UserError(f"gymnasium.make_vec does not pass on {given}: give it vector_kwargs=dict({given}).")
        self._spec = spec

    def _seed_worlds(self, seed: Seeds) -> None:
        """Seed world i with `seed` + i, or with `seed`[i]; None leaves the stream of a world as it is."""
        if seed is None:
            return
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else list(seed)
        if len(seeds) != self.num_envs:
            raise UserError(f"seed has {len(seeds)} numbers; one for each of the {self.num_envs} worlds is needed.")
        for world, own in enumerate(seeds):
            if own is None:
                continue
            if not 0 <= own < _SEEDS:
                raise UserError(f"the seed of world {world} is {own}; a number from 0 to {_SEEDS - 1} is needed.")
            self._worlds.seed_stream(world, int(own))

    def reset_wait(self, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start new episodes in all worlds: their first observations, (W, D), and an empty `info`.

        Args:
            seed: of world 0, world i gets `seed` + i; or a seed, or None, for each world. Without a seed, the worlds go
                on with their random streams.
            options: not used, as in Safety-Gymnasium.

        Raises:
            UserError: a seed is out of its range, or gives no valid layout.
        """
        self._require_open()
        self._seed_worlds(seed)
        self._worlds.reset(np.arange(self.num_envs))
        self._observation = self._worlds.observe()
        return self._observation, {}

    def step_async(self, actions: ArrayLike) -> None:
        """Take actions, (W, A), for the next `step_wait`; they may be beyond the action space, as in the originals.

        Raises:
            UserError: the actions have another shape.
        """
        given = np.asarray(actions)
        if given.shape != self.action_space.shape:
            raise UserError(f"the actions have the shape {given.shape}; {self.action_space.shape} is needed.")
        self._actions = given

    def step_wait(self, **kwargs: object) -> tuple[Any, ...]:
        """Step all worlds: observations (W, D), rewards (W,), terminated (W,), truncated (W,), info; see make_vec."""
        self._require_open()
        if self._observation is None or self._actions is None:
            raise ResetNeeded("Cannot call step() before calling reset().")
        outcome = self._worlds.step(self._actions)
        info: dict[str, Any] = {"cost": outcome.cost, "_cost": self._everywhere.copy()}
        before, self._observation = self._observation, self._worlds.observe()
        ended = outcome.terminated | outcome.truncated
        if ended.any():
            info |= self._reset_ended(ended, outcome, before)
        cost = (outcome.cost.copy(),) if self._cost_returned else ()
        return (self._observation, outcome.reward, *cost, outcome.terminated, outcome.truncated, info)

    def _reset_ended(self, ended: Flags, outcome: Outcome, before: Array) -> dict[str, Any]:
        """Start new episodes where they have ended; what `info` tells of the ended ones."""
        assert self._observation is not None
        last = np.where(outcome.failed[:, None], before, self._observation)
        observations, infos = (np.full(self.num_envs, None, dtype=object) for _ in range(2))
        worlds = np.flatnonzero(ended)
        for world in worlds:
            observations[world], infos[world] = last[world], {"cost": float(outcome.cost[world])}
        self._worlds.reset(worlds)
        self._observation = self._worlds.observe()
        return {
            "final_observation": observations,
            "_final_observation": ended,
            "final_info": infos,
            "_final_info": ended.copy(),
        }

    def render(self) -> Any:
        """A frame of world 0, (360, 360, 3) uint8; the camera sees all of its things, or follows its robot.

        Raises:
            UserError: `render_mode` is None, or this machine cannot draw.
        """
        self._require_open()
        if self.render_mode is None:
            raise UserError('nothing is drawn, because render_mode is None: give make_vec render_mode="rgb_array".')
        if self._observation is None:
            raise ResetNeeded("Cannot call render() before calling reset().")
        if self._painter is None:
            from .drawing import NoRendererError, open_painter

            try:
                self._painter = self._resources.enter_context(open_painter(self._worlds))
            except NoRendererError as error:
                raise UserError(f"this machine cannot draw: {error}.") from None
            # registered after MuJoCo's own end of OpenGL, and so called before it, where nobody has called `close`
            self._resources.callback(atexit.unregister, atexit.register(partial(_close, weakref.ref(self))))
        positions = {name: xy[0] for name, xy in self._worlds.named_positions().items()}
        return self._painter.frame(self._worlds.physics.geometry(0), positions)

    def call_async(self, name: str, *args: object, **kwargs: object) -> None:
        """There are no environments of which a method could be called.

        Raises:
            UserError: always.
        """
        raise UserError(f"the worlds of {self} are no environments of their own, and have no {name!r}.")

    def set_attr(self, name: str, values: object) -> None:
        """See call_async."""
        self.call_async(name)

    def close_extras(self, **kwargs: object) -> None:
        """Free what rendering uses."""
        self._resources.close()

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("The environment is closed.")


def _close(env: "weakref.ref[EngineVectorEnv]") -> None:
    """Close an environment, if it is still there."""
    found = env()
    if found is not None:
        found.close()  # type: ignore[no-untyped-call]  # Gymnasium's
