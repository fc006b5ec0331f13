"""safety_gymnasium's environments and the navigation engine's worlds, side by side in the same states."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.task import Task

Array = NDArray[np.float64]

AGENTS = ("Point", "Car", "Racecar", "Doggo", "Ant")
COLLIDING = ("vases", "pillars", "gremlins", "buttons", "push_box")
MOVABLE = ("vases", "push_box")
"""What lies on the floor and moves when it is pushed; fast mode lets it sleep."""
_CREEP = 1e-6
"""How far things at rest move in an episode at most, m."""
BOX = {"col1", "col2", "col3", "col4", "push_box"}
"""Geoms of the box: it has four corner posts."""


def supported_ids() -> list[str]:
    """Ids of the registry that the engine runs: all agents with Goal, Button, Push and Circle 0 to 2, and Run0."""
    pattern = re.compile(rf"Safety({'|'.join(AGENTS)})((Goal|Button|Push|Circle)[012]|Run0)-v0")
    return sorted(filter(pattern.fullmatch, import_safety_gymnasium().utils.registration.safe_registry))


class Drift:
    """Random actions with a drift that changes from time to time, so that agents get about.

    Args:
        space: the action space, symmetric about 0.
        worlds: W.
        seed: of the actions.
        hold: steps for which a drift lasts.
    """

    def __init__(self, space: Any, worlds: int, seed: int, hold: int = 20) -> None:
        self._high = np.asarray(space.high, np.float64)
        self._shape, self._hold, self._rng = (worlds, *space.shape), hold, np.random.default_rng(seed)
        self._drift, self._step = np.zeros(self._shape), 0

    def __call__(self) -> Array:
        """The next actions, (W, A)."""
        if self._step % self._hold == 0:
            self._drift = self._rng.uniform(-0.8, 0.8, self._shape)
        self._step += 1
        actions = self._drift + 0.6 * self._rng.uniform(-1.0, 1.0, self._shape)
        return np.asarray(actions.clip(-1.0, 1.0) * self._high)


@dataclass(frozen=True)
class Pair:
    """The same quantity of both sides, (W, ...)."""

    engine: NDArray[Any]
    original: NDArray[Any]

    def difference(self) -> Array:
        """The largest difference in each world, (W,); where one side is not a number, infinite."""
        gap = np.abs(self.engine.astype(np.float64) - self.original.astype(np.float64))
        gap = np.where(np.isnan(gap), np.inf, gap).reshape(len(gap), -1)
        return np.asarray(gap.max(axis=1))


@dataclass(frozen=True)
class Both:
    """What a step gave on both sides.

    Attributes:
        observation: (W, D).
        reward: (W,).
        cost: (W,).
        terminated: (W,).
        truncated: (W,).
        reached: whether the original met its goal, (W,).
    """

    observation: Pair
    reward: Pair
    cost: Pair
    terminated: Pair
    truncated: Pair
    reached: NDArray[np.bool_]

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Where the original's episode ended, (W,)."""
        return np.asarray(self.terminated.original | self.truncated.original)

    def differences(self) -> dict[str, Array]:
        """The largest difference of each quantity, (W,); 1 for flags that differ."""
        names = ("observation", "reward", "cost", "terminated", "truncated")
        return {name: getattr(self, name).difference() for name in names}


class Twins:
    """Worlds of the engine, each with the environment of safety_gymnasium that it is to equal.

    World i and its twin are seeded with `seed` + i, or with the layout seed of `task`.

    Args:
        env_id: Safety-Gymnasium id.
        worlds: W.
        seed: of world 0.
        mode: of the engine.
        horizon: steps of an episode on both sides, None for the id's own.
        amounts: whether a cost is the amount that a step's hazards and contacts add up to, rather than 0 or 1.
        task: that all worlds run, None for none; what else it changes than the layout is the caller's to change in the
            twins.
    """

    def __init__(
        self,
        env_id: str,
        worlds: int,
        *,
        seed: int = 0,
        mode: str = "exact",
        horizon: int | None = None,
        amounts: bool = False,
        task: Task | None = None,
    ) -> None:
        self.env = NavigationEnv(env_id, 1, worlds, mode, 1, seed, horizon=horizon, dtype=torch.float64)
        safety_gymnasium = import_safety_gymnasium()
        self.originals = [safety_gymnasium.make(env_id, disable_env_checker=True).unwrapped for _ in range(worlds)]
        for twin in self.originals:
            twin.task.num_steps = self.env.horizon
            twin.task.cost_conf.constrain_indicator = not amounts
        self.env.worlds._costs._indicator = not amounts
        self._seeds: list[int | None] = [seed + i if task is None else task.layout_seed for i in range(worlds)]
        self._task = task
        if task is not None:
            self.env.set_tasks([task])

    @property
    def action_space(self) -> Any:
        """The original's."""
        return self.originals[0].action_space

    def reset(self) -> Pair:
        """Start all worlds; the first observations, (W, D)."""
        engine = self.env.reset()["observation"][0].numpy()
        original = [twin.reset(seed=seed)[0] for twin, seed in zip(self.originals, self._seeds, strict=True)]
        self._check_joints()
        return Pair(engine, np.array(original))

    def _check_joints(self) -> None:
        ours, theirs = self.env.worlds.definition.model, self.originals[0].task.model
        assert [ours.joint(i).name for i in range(ours.njnt)] == [theirs.joint(i).name for i in range(theirs.njnt)]
        np.testing.assert_array_equal(ours.jnt_qposadr, theirs.jnt_qposadr)

    def reset_ended(self, ended: NDArray[np.bool_]) -> Pair:
        """Automatic resets: without a seed, but for a task's; the observations of all worlds, (W, D)."""
        mask = torch.from_numpy(ended).view(1, -1, 1)
        engine = self.env.reset(TensorDict({"_reset": mask}, self.env.batch_size))["observation"][0].numpy()
        original = engine.copy()
        for world in np.flatnonzero(ended):
            seed = None if self._task is None else self._task.layout_seed
            original[world] = self.originals[world].reset(seed=seed)[0]
        return Pair(engine, original)

    def step(self, actions: Array) -> Both:
        """One step of all worlds, (W, A); nothing is reset."""
        after = self.env.step(TensorDict({"action": torch.from_numpy(actions)[None]}, self.env.batch_size))["next"]
        original = [twin.step(action) for twin, action in zip(self.originals, actions, strict=True)]

        def pair(key: str, column: int) -> Pair:
            theirs = np.array([step[column] for step in original])
            return Pair(after[key][0].numpy().reshape(theirs.shape), theirs)

        return Both(
            observation=pair("observation", 0),
            reward=pair("reward", 1),
            cost=pair("cost", 2),
            terminated=pair("terminated", 3),
            truncated=pair("truncated", 4),
            reached=np.array([bool(step[5].get("goal_met", False)) for step in original]),
        )

    def write_joints(self, world: int, qpos: Array) -> None:
        """Set the joints of a world on both sides, (nq,)."""
        self.originals[world].task.data.qpos[:] = qpos
        self.env.worlds.physics.set_joints(np.array([world]), qpos[None])

    def close(self) -> None:
        """Close the engine's side."""
        self.env.close()


def contacts(data: Any) -> list[tuple[int, int]]:
    """Pairs of geoms in contact."""
    return [(int(a), int(b)) for a, b in data.contact.geom]


def roots(model: Any) -> NDArray[np.intp]:
    """For each geom, the body that hangs in the world and carries it, (geoms,)."""
    return np.asarray(model.body_rootid[model.geom_bodyid])


def touched_by(model: Any, data: Any, body: str) -> set[str]:
    """Names of the geoms that touch a body, or what hangs on it, the floor left out."""
    root, owner = model.body(body).id, roots(model)
    touched = set()
    for pair in contacts(data):
        mine = [owner[geom] == root for geom in pair]
        if sum(mine) == 1:
            touched.add(model.geom(pair[mine.index(False)]).name)
    return touched - {"floor"}


def kinds_touched(task: Any) -> set[str]:
    """Which kinds of things the original's agent touches now."""
    names = touched_by(task.model, task.data, "agent")
    return {"push_box" if name in BOX else f"{re.sub(r'[0-9].*', '', name)}s" for name in names}


def movable_disturbed(task: Any) -> bool:
    """Whether anything but the floor has touched a vase or the box of the original.

    A contact in the midst of a step may be over at its end; then the thing lies elsewhere. At rest none creeps so far.
    """
    model, owner = task.model, roots(task.model)
    names = {model.body(i).name: i for i in range(model.nbody)}
    movable = {name: i for name, i in names.items() if name == "push_box" or re.fullmatch(r"vase\d+", name)}
    for a, b in contacts(task.data):
        pair = {int(owner[a]), int(owner[b])}
        if 0 not in pair and pair & set(movable.values()):
            return True
    placed = task.world_info.reset_layout
    return any(np.abs(task.data.xpos[i, :2] - placed[name]).max() > _CREEP for name, i in movable.items())
