"""Random actions in worlds of a user's own environment."""

import torch

from cmaml_pl.distributed.ranks import Ranks
from cmaml_pl.task import Task

STEPS, ENVS = 12, 2


def random_rollout(make_env, name, values, *, rank, ranks):
    """A rollout and its actions, in worlds with several values of a parameter, of which rank `rank` steps its part.

    Args:
        make_env: gives the environment with a number of tasks.
        name: of the parameter.
        values: one for each task.
        rank: number of the rank.
        ranks: number of ranks.
    """
    rows = len(values) // ranks
    part = slice(rank * rows, (rank + 1) * rows)
    env = make_env(rows)
    env.ranks = Ranks(rank, ranks)
    env.set_tasks([Task("x", i, i, 1.0, {name: value}) for i, value in enumerate(values)][part])
    env.set_seed(3)
    actions = torch.randn(STEPS, len(values), ENVS, 1, generator=torch.Generator().manual_seed(0))[:, part]
    steps = iter(actions.unbind())
    rollout = env.rollout(STEPS, policy=lambda td: td.set("action", next(steps)), break_when_any_done=False)
    env.close()
    return rollout, actions
