"""Safety-Gymnasium's navigation tasks as one batched TorchRL environment, nearly as fast as their physics alone."""

from collections.abc import Sequence

import torch

from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.envs.navigation.definition import Pose, read_definition
from cmaml_pl.envs.navigation.parameters import Parameters, read_parameters
from cmaml_pl.envs.navigation.worlds import NavigationWorlds
from cmaml_pl.envs.nearness import check_near
from cmaml_pl.task import Task


class NavigationEnv(EngineEnv):
    """Worlds of one Safety-Gymnasium navigation task, batch size [num_tasks, num_envs], all in this process.

    It runs the agents Point, Car, Racecar, Doggo and Ant, and the tasks Goal, Button, Push, Circle and Run. The objects
    of a world, its costs, rewards and observations are read from safety_gymnasium.

    Without tasks, world i draws its layouts from a random stream seeded with `seed` + i, as in Safety-Gymnasium's
    vector environment. `set_tasks` gives row p a task. A task has a layout seed, so that every reset gives the same
    layout and the same following goals, and parameters that the agent does not observe:

    - `mass`, `damping`, `gear`: factors of the agent's masses and inertias, joint damping and actuator gears.
    - `goal_x`, `goal_y`, only in Goal and Push: the fixed position of the goal, m, even if other things are there. When
      the goal is reached, no new goal is drawn: the world goes back to the start of the episode, and the episode
      continues.
    - `cost_hazards` and so on, for each group of the id that can cost: weight of its cost. By default it is 1 for the
      groups that the id constrains and 0 for the others. If the cost is an indicator, any weight above 0 counts as 1.

    The cost is an indicator, 0 or 1, unless the id's task defines it otherwise. Actions are clipped to the action space
    when they are given to a world; the batch keeps them as the policy drew them. If the physics of a world fails, its
    episode is truncated, with a cost of 1 and the task's `reward_exception` as reward.

    Args:
        env_id: Safety-Gymnasium id, e.g. SafetyPointGoal1-v0.
        num_tasks: number of rows of the batch.
        num_envs: number of worlds of each task.
        horizon: steps after which an episode is truncated, at most the id's own limit; None for the id's own limit.
        mode: "exact" gives the same numbers as safety_gymnasium. "fast" is several times faster: vases and boxes sleep
            while nothing moves them. Its numbers are the same until the first contact with one of them, and have the
            same distribution afterwards.
        num_threads: threads of the physics, including that of the caller; None for one per usable core. The number does
            not change any result.
        seed: seed of the layouts as long as no tasks are set.
        dtype: dtype of observations, rewards and costs; the physics always uses float64.
        hidden: names of groups whose lidar is left out of the observation, e.g. ("goal",).
        observe_position: whether x and y of the agent, m, are appended to the observation.
        near: length, m, above 0. If it is given, exp(-distance / near) is appended to the observation for each bin of
            each lidar: the same readings, with their differences where a thing is near. None leaves it out.
        start: pose in which the agent starts in every world: x and y, m, and heading, rad; None for a random one.
        reveal: see TaskEnv; it needs tasks.

    Attributes:
        cost_groups: names of the groups that can cost.

    Raises:
        UserError: Safety-Gymnasium is missing or has no such id, the engine does not run the id (UnsupportedTaskError),
            or an argument is out of its range.
    """

    worlds: NavigationWorlds

    def __init__(
        self,
        env_id: str,
        num_tasks: int = 1,
        num_envs: int = 64,
        mode: str = "fast",
        num_threads: int | None = None,
        seed: int = 0,
        *,
        horizon: int | None = None,
        dtype: torch.dtype = torch.float32,
        hidden: Sequence[str] = (),
        observe_position: bool = False,
        near: float | None = None,
        start: Pose | None = None,
        reveal: Sequence[str] = (),
    ) -> None:
        super().__init__(env_id, num_tasks, num_envs, mode, num_threads, horizon=horizon, dtype=dtype, reveal=reveal)
        check_near(near)
        definition = read_definition(env_id, hidden=hidden, start=start)
        self.cost_groups = tuple(group.name for group in definition.costly)
        self.worlds = NavigationWorlds(
            definition,
            self.batch_size.numel(),
            horizon=self.horizon,
            num_threads=self.num_threads,
            sleeping=mode == "fast",
            observe_position=observe_position,
            near=near,
        )
        self.worlds.seed_streams(seed)
        bounds = definition.task.action_space
        self._declare(observation_size=self.worlds.observer.size, low=bounds.low, high=bounds.high)
        self.radii = {group.name: group.radius for group in definition.groups}

    def _set_tasks(self, tasks: Sequence[Task]) -> None:
        given, envs = read_parameters(self.worlds.definition, tasks), self.batch_size[1]
        self.worlds.parameters = Parameters(
            *(values.repeat(envs, axis=0) for values in (given.factors, given.goals, given.weights))
        )
        self.worlds.layout_seeds = [task.layout_seed for task in tasks for _ in range(self.batch_size[1])]
