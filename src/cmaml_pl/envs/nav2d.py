"""A constrained 2-D navigation problem in batched torch, simple enough to try an idea in a minute."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from cmaml_pl.envs.base import TaskEnv, set_specs
from cmaml_pl.task import Task

RAYS = 16
"""Number of directions in which the lidar looks."""
LIDAR_RANGE = 1.0
"""Distance from which on the lidar does not see a hazard."""
MAX_STEP = 0.05
"""Distance that an action of length 1 covers in one step."""
HAZARDS = 2
"""Number of hazards, which are discs around the start."""
HAZARD_RADIUS = 0.5
START_NOISE = 0.02
"""Half of the width of the square in which an episode starts."""
COSTLY = "costly_hazard"
"""Parameter of a task in which only one hazard costs: which one, from 0 on."""
ARENA = 2.0
"""The point stays within [-ARENA, ARENA]^2."""


def place_hazards(layout_seed: int) -> Tensor:
    """Centres of a task's hazards, (HAZARDS, 2).

    They stand around the start at distances of 0.66 to 0.70, at equal angles with a random rotation and a small random
    jitter. They do not depend on the goal, so that the hazards, which are observed, tell nothing about it. More than
    half of all directions are blocked.
    """
    rng = np.random.default_rng(layout_seed)
    angle = 2 * np.pi * (np.arange(HAZARDS) + 0.1 * rng.uniform(-1, 1, HAZARDS)) / HAZARDS + rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(0.66, 0.70, HAZARDS)
    return torch.as_tensor(distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), dtype=torch.float32)


def hazard_lidar(position: Tensor, hazards: Tensor) -> Tensor:
    """Closeness of the nearest hazard along each of RAYS rays: 1 at its edge or inside it, 0 from LIDAR_RANGE on.

    Args:
        position: positions of the agents, (tasks, envs, 2).
        hazards: centres of the hazards, (tasks, HAZARDS, 2).

    Returns:
        Closeness, (tasks, envs, RAYS), each in [0, 1].
    """
    angle = torch.arange(RAYS) * (2 * torch.pi / RAYS)
    direction = torch.stack([angle.cos(), angle.sin()])  # (2, RAYS)
    offset = hazards[:, None] - position[:, :, None]  # (tasks, envs, HAZARDS, 2)
    along = offset @ direction  # distance along the ray to the point nearest the centre, (tasks, envs, HAZARDS, RAYS)
    beside = offset.square().sum(dim=-1, keepdim=True) - along.square()  # squared distance of that point to the centre
    half_chord = (HAZARD_RADIUS**2 - beside).clamp_min(0.0).sqrt()
    hit = (beside < HAZARD_RADIUS**2) & (along + half_chord > 0)
    distance = torch.where(hit, (along - half_chord).clamp_min(0.0), LIDAR_RANGE)
    return (1.0 - distance.amin(dim=2) / LIDAR_RANGE).clamp_min(0.0)


class Nav2DEnv(TaskEnv):
    """A point that moves among hazard discs toward a goal that it does not see.

    Observation (2 + RAYS): position and hazard lidar. Action (2): velocity, clipped to length 1. Reward: by how much
    the step has reduced the distance to the goal; the return is therefore at most the goal's distance from the start.
    Cost: 1 for each step inside a hazard. The task's ``parameters["goal_x"]`` and ``parameters["goal_y"]`` are the
    goal, and its `layout_seed` determines the hazards.

    With `one_costs` only the hazard ``parameters["costly_hazard"]`` costs. The observation then has a lidar for each
    hazard, (2 + HAZARDS RAYS).

    Args:
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps of an episode; only this time limit ends an episode.
        reveal: see TaskEnv.
        one_costs: whether one hazard costs, or all.
    """

    divides_numbers = True

    def __init__(
        self, num_tasks: int, num_envs: int, *, horizon: int, reveal: Sequence[str] = (), one_costs: bool = False
    ) -> None:
        super().__init__(batch_size=torch.Size([num_tasks, num_envs]))
        self.horizon, self.reveal, self.one_costs = horizon, tuple(reveal), one_costs
        self.radii = dict.fromkeys(["hazards", "free hazards"] if one_costs else ["hazards"], HAZARD_RADIUS)
        anything, lidars = torch.full((2,), torch.inf), HAZARDS if one_costs else 1
        set_specs(self, observation_size=2 + lidars * RAYS + len(self.reveal), low=-anything, high=anything)
        self._generator = torch.Generator()
        self._tasks_given = False
        self._goal = torch.zeros(num_tasks, 1, 2)
        self._hazards = torch.zeros(num_tasks, HAZARDS, 2)
        self._costs = torch.ones(num_tasks, HAZARDS, dtype=torch.bool)
        self._position = torch.zeros(*self.batch_size, 2)
        self._steps = torch.zeros(*self.batch_size, 1, dtype=torch.int64)

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        self._goal = torch.tensor([[[t.parameters["goal_x"], t.parameters["goal_y"]]] for t in tasks])
        self._hazards = torch.stack([place_hazards(t.layout_seed) for t in tasks])
        if self.one_costs:
            self._costs = torch.tensor([[i == t.parameters[COSTLY] for i in range(HAZARDS)] for t in tasks])
        self._tasks_given = True

    def positions(self) -> dict[str, NDArray[np.float64]]:
        """See TaskEnv."""
        things = {
            "agent": self._position[:, :, None],
            "goal": self._goal[:, :, None].expand(*self.batch_size, 1, 2),
            "hazards": self._placed(self._costs),
            **({"free hazards": self._placed(~self._costs)} if self.one_costs else {}),
        }
        return {name: xy.double().numpy() for name, xy in things.items()}

    def _placed(self, which: Tensor) -> Tensor:
        """The centres of equally many hazards of each task, bool (tasks, HAZARDS) -> (tasks, envs, number, 2)."""
        centres = self._hazards[which].view(self.batch_size[0], 1, -1, 2)
        return centres.expand(*self.batch_size, *centres.shape[2:])

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        if not self._tasks_given:
            raise RuntimeError("Nav2DEnv has no tasks yet: call set_tasks before the first reset.")
        chosen = torch.ones(*self.batch_size, 1, dtype=torch.bool)
        if tensordict is not None and "_reset" in tensordict.keys():
            chosen = tensordict["_reset"].view(*self.batch_size, 1)
        uniform = self.ranks.draw(torch.rand, self._position.shape, generator=self._generator)
        start = START_NOISE * (2 * uniform - 1)
        self._position = torch.where(chosen, start, self._position)
        self._steps = torch.where(chosen, 0, self._steps)
        no = torch.zeros_like(chosen)
        return TensorDict(
            {**self._observe(), "done": no, "terminated": no.clone(), "truncated": no.clone()}, self.batch_size
        )

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict["action"]
        velocity = action / action.norm(dim=-1, keepdim=True).clamp_min(1.0)
        before = (self._goal - self._position).norm(dim=-1, keepdim=True)
        self._position = (self._position + MAX_STEP * velocity).clamp(-ARENA, ARENA)
        self._steps = self._steps + 1
        truncated = self._steps >= self.horizon
        return TensorDict(
            {
                **self._observe(),
                "reward": before - (self._goal - self._position).norm(dim=-1, keepdim=True),
                "done": truncated,
                "terminated": torch.zeros_like(truncated),
                "truncated": truncated.clone(),
            },
            self.batch_size,
        )

    def _observe(self) -> dict[str, Tensor]:
        looks = self._hazards.split(1, dim=1) if self.one_costs else [self._hazards]
        lidars = [hazard_lidar(self._position, hazards) for hazards in looks]
        offset = self._hazards[:, None] - self._position[:, :, None]
        inside = (offset.norm(dim=-1) < HAZARD_RADIUS) & self._costs[:, None]  # (tasks, envs, HAZARDS)
        seen = self._with_revealed(torch.cat([self._position, *lidars], dim=-1))
        return {"observation": seen, "cost": inside.any(dim=-1, keepdim=True).float()}

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self._generator.manual_seed(seed)
