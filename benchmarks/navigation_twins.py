"""Steps safety_gymnasium's environments and the navigation engine's worlds side by side, in the same states."""

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
"""Kinds of things that lie on the floor and move when they are pushed; in fast mode they may sleep."""
_CREEP = 1e-6
"""Largest distance that a thing at rest moves in an episode, m."""
BOX = {"col1", "col2", "col3", "col4", "push_box"}
"""Names of the geoms of the box and of its four corner posts."""


def supported_ids() -> list[str]:
    """Registered ids that the engine runs: all agents with Goal, Button, Push and Circle on levels 0 to 2, and Run0."""
    pattern = re.compile(rf"Safety({'|'.join(AGENTS)})((Goal|Button|Push|Circle)[012]|Run0)-v0")
    return sorted(filter(pattern.fullmatch, import_safety_gymnasium().utils.registration.safe_registry))


class Drift:
    """Random actions with a drift that changes from time to time, so that agents move around.

    Args:
        space: the action space, symmetric about 0.
        worlds: W, number of worlds.
        seed: seed of the actions.
        hold: number of steps for which a drift stays the same.
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
    """The same quantity of the engine and of the original (safety_gymnasium), (W, ...) each."""

    engine: NDArray[Any]
    original: NDArray[Any]

    def difference(self) -> Array:
        """The largest difference in each world, (W,); infinite if a number is NaN."""
        gap = np.abs(self.engine.astype(np.float64) - self.original.astype(np.float64))
        gap = np.where(np.isnan(gap), np.inf, gap).reshape(len(gap), -1)
        return np.asarray(gap.max(axis=1))


@dataclass(frozen=True)
class Both:
    """The results of a step on both sides, the engine's and the original's.

    Attributes:
        observation: observations, (W, D).
        reward: rewards, (W,).
        cost: costs, (W,).
        terminated: whether the episode ended for good, (W,).
        truncated: whether the episode was truncated, (W,).
        reached: whether the original reached its goal, (W,).
    """

    observation: Pair
    reward: Pair
    cost: Pair
    terminated: Pair
    truncated: Pair
    reached: NDArray[np.bool_]

    @property
    def ended(self) -> NDArray[np.bool_]:
        """Whether the original's episode ended, (W,)."""
        return np.asarray(self.terminated.original | self.truncated.original)

    def differences(self) -> dict[str, Array]:
        """Quantity -> largest difference in each world, (W,); for flags that differ it is 1."""
        names = ("observation", "reward", "cost", "terminated", "truncated")
        return {name: getattr(self, name).difference() for name in names}


class Twins:
    """Worlds of the engine; each has a twin, an environment of safety_gymnasium that should behave in the same way.

    World i and its twin are seeded with `seed` + i, or with the layout seed of `task`.

    Args:
        env_id: Safety-Gymnasium id.
        worlds: W, number of worlds.
        seed: seed of world 0.
        mode: mode of the engine.
        horizon: steps of an episode on both sides; None for the id's own.
        amounts: whether a cost is the sum of what a step's hazards and contacts cost, instead of 0 or 1.
        task: a task that all worlds run; None for none. The twins get only its layout seed: the caller must make its
            other changes in the twins.
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
        """The action space of the original."""
        return self.originals[0].action_space

    def reset(self) -> Pair:
        """Start all worlds, and return the first observations, (W, D)."""
        engine = self.env.reset()["observation"][0].numpy()
        original = [twin.reset(seed=seed)[0] for twin, seed in zip(self.originals, self._seeds, strict=True)]
        self._check_joints()
        return Pair(engine, np.array(original))

    def _check_joints(self) -> None:
        ours, theirs = self.env.worlds.definition.model, self.originals[0].task.model
        assert [ours.joint(i).name for i in range(ours.njnt)] == [theirs.joint(i).name for i in range(theirs.njnt)]
        np.testing.assert_array_equal(ours.jnt_qposadr, theirs.jnt_qposadr)

    def reset_ended(self, ended: NDArray[np.bool_]) -> Pair:
        """Reset the worlds whose episodes ended, and return the observations of all worlds, (W, D).

        As in an automatic reset, the original is given no seed, unless there is a task.
        """
        mask = torch.from_numpy(ended).view(1, -1, 1)
        engine = self.env.reset(TensorDict({"_reset": mask}, self.env.batch_size))["observation"][0].numpy()
        original = engine.copy()
        for world in np.flatnonzero(ended):
            seed = None if self._task is None else self._task.layout_seed
            original[world] = self.originals[world].reset(seed=seed)[0]
        return Pair(engine, original)

    def step(self, actions: Array) -> Both:
        """Step all worlds with actions (W, A), without resets."""
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
        """Set the joint positions of a world to `qpos`, (nq,), on both sides."""
        self.originals[world].task.data.qpos[:] = qpos
        self.env.worlds.physics.set_joints(np.array([world]), qpos[None])

    def close(self) -> None:
        """Close the engine's side."""
        self.env.close()


def contacts(data: Any) -> list[tuple[int, int]]:
    """Pairs of geoms in contact."""
    return [(int(a), int(b)) for a, b in data.contact.geom]


def roots(model: Any) -> NDArray[np.intp]:
    """For each geom the root of its tree of bodies, which is a body directly in the world, (geoms,)."""
    return np.asarray(model.body_rootid[model.geom_bodyid])


def touched_by(model: Any, data: Any, body: str) -> set[str]:
    """Names of the geoms that touch a body or the bodies attached to it; the floor is left out."""
    root, owner = model.body(body).id, roots(model)
    touched = set()
    for pair in contacts(data):
        mine = [owner[geom] == root for geom in pair]
        if sum(mine) == 1:
            touched.add(model.geom(pair[mine.index(False)]).name)
    return touched - {"floor"}


def kinds_touched(task: Any) -> set[str]:
    """The kinds of things that the original's agent touches now."""
    names = touched_by(task.model, task.data, "agent")
    return {"push_box" if name in BOX else f"{re.sub(r'[0-9].*', '', name)}s" for name in names}


def movable_disturbed(task: Any) -> bool:
    """Whether anything but the floor has touched a vase or the box of the original.

    A contact during a step may be over at its end; it is then seen by the distance that the thing has moved. Things at
    rest do not move so far.
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
