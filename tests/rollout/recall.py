"""Worlds that only a policy with a memory can solve."""

from dataclasses import dataclass

import torch
from tensordict import TensorDict

from cmaml_pl.envs.base import TaskEnv, set_specs
from cmaml_pl.task import Task
from cmaml_pl.tasks.base import TaskFamily


class Recall(TaskEnv):
    """A cue, -1 or 1, is seen in the first step of an episode alone. Reward: -(action - cue)^2.

    An action over 1 costs. With `chance` a step ends its episode.
    """

    def __init__(self, num_tasks, num_envs, *, horizon, chance=0.0):
        super().__init__(batch_size=torch.Size([num_tasks, num_envs]))
        self.horizon, self.chance, self.generator = horizon, chance, torch.Generator()
        anything = torch.full((1,), torch.inf)
        set_specs(self, observation_size=1, low=-anything, high=anything)
        self.cue = torch.zeros(*self.batch_size, 1)
        self.age = torch.zeros(*self.batch_size, 1, dtype=torch.int64)

    def _set_tasks(self, tasks):
        pass

    def _set_seed(self, seed):
        self.generator.manual_seed(seed)

    def uniform(self):
        return self.ranks.draw(torch.rand, self.cue.shape, generator=self.generator)

    def _reset(self, tensordict=None, **kwargs):
        everything = tensordict is None or "_reset" not in tensordict.keys()
        chosen = torch.ones_like(self.age, dtype=torch.bool) if everything else tensordict["_reset"]
        self.cue = torch.where(chosen, 2.0 * (self.uniform() < 0.5) - 1.0, self.cue)
        self.age = torch.where(chosen, 0, self.age)
        return self.give(torch.zeros_like(chosen), torch.zeros_like(chosen))

    def _step(self, tensordict):
        self.age = self.age + 1
        action, ends = tensordict["action"], self.uniform() < self.chance
        result = self.give(ends, self.age >= self.horizon)
        return result.update({"reward": -(action - self.cue).square(), "cost": (action > 1.0).float()})

    def give(self, terminated, truncated):
        seen = self.cue.where(self.age == 0, 0.0)
        ends = {"terminated": terminated, "truncated": truncated, "done": terminated | truncated}
        return TensorDict({"observation": seen, "cost": torch.zeros_like(seen), **ends}, self.batch_size)


@dataclass(frozen=True, kw_only=True)
class RecallFamily(TaskFamily):
    """Its tasks are all alike."""

    family: str = "tests.rollout.recall:RecallFamily"
    chance: float = 0.0

    def task(self, task_id, *, cost_limit):
        return Task(self.family, task_id, layout_seed=task_id, cost_limit=cost_limit, parameters={})

    def make_env(self, num_tasks, num_envs, *, horizon, workers):
        return Recall(num_tasks, num_envs, horizon=horizon, chance=self.chance)
