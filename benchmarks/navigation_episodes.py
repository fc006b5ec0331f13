"""Runs whole episodes of the navigation engine in both modes, and tests whether they are the same on average."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from benchmarks.navigation_twins import Array, Drift
from rich.table import Table
from scipy import stats

from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.envs.navigation.worlds import NavigationWorlds
from cmaml_pl.errors import UserError
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.runs.checkpoints import load_checkpoint

LEVEL = 0.99
"""Level of the confidence intervals."""

Policy = Callable[[Array], Array]
"""Observations (W, D) -> actions (W, A), for W worlds."""
MakePolicy = Callable[[NavigationEnv, int], Policy]
"""An environment and a seed -> a policy."""


def random_policy(env: NavigationEnv, seed: int) -> Policy:
    """A policy with random actions that drift, so that agents move around, see Drift."""
    draw = Drift(env.worlds.definition.task.action_space, env.batch_size[1], seed)
    return lambda observation: draw()


def trained_policy(actor: GaussianActor, env: NavigationEnv, seed: int) -> Policy:
    """A policy that draws its actions from an actor.

    Raises:
        UserError: the actor is for observations or actions of other sizes.
    """
    sizes = (actor.normaliser.mean.numel(), actor.log_std.numel())
    if sizes != (env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]):
        raise UserError(f"--policy has {sizes[0]} observations and {sizes[1]} actions: it is none for {env.env_id}.")
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def draw(observation: Array) -> Array:
        loc, scale = actor(torch.from_numpy(observation).float())
        return np.asarray((loc + scale * torch.randn(loc.shape, generator=generator)).double().numpy())

    return draw


def load_actor(checkpoint: Path) -> GaussianActor:
    """The actor in a training checkpoint, with its observation normaliser."""
    stored = load_checkpoint(checkpoint).content["state_dict"]
    state = {name.removeprefix("actor."): value for name, value in stored.items() if name.startswith("actor.")}
    widths = [value.shape for name, value in state.items() if name.startswith("mean.") and name.endswith(".weight")]
    actor = GaussianActor(
        widths[0][1],
        widths[-1][0],
        hidden=[out for out, _ in widths[:-1]],
        init_log_std=0.0,
        generator=torch.Generator(),
    )
    actor.load_state_dict(state)
    return actor


def run_episodes(env: NavigationEnv, policy: Policy) -> dict[str, Array]:
    """Run one episode in each world. Return name -> (W,): return, cost, goals, and mean vase displacement, m."""
    worlds: NavigationWorlds = env.worlds
    every = np.arange(env.batch_size.numel())
    low, high = env.action_spec.space.low[0].numpy(), env.action_spec.space.high[0].numpy()
    totals = {name: np.zeros(len(every)) for name in ("return", "cost", "goals")}
    running = np.ones(len(every), np.bool_)
    worlds.reset(every)
    placed = worlds.named_positions()["vases"]
    displacement = np.zeros(len(every))
    while running.any():
        outcome = worlds.step(policy(worlds.observe()).clip(low, high))
        totals["return"] += outcome.reward * running
        totals["cost"] += outcome.cost * running
        totals["goals"] += outcome.reached & running
        ended = running & (outcome.terminated | outcome.truncated)
        moved = np.linalg.norm(worlds.named_positions()["vases"] - placed, axis=-1).mean(axis=1)
        displacement[ended] = moved[ended]
        running &= ~ended
    return {**totals, "vase displacement": displacement}


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, samples: Array) -> "Interval":
        """Student's interval of the mean of independent samples, (n,)."""
        error = samples.std(ddof=1) / math.sqrt(len(samples))
        return cls(float(samples.mean()), float(error * stats.t.ppf((1 + LEVEL) / 2, len(samples) - 1)))

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.half_width:.2g}"


@dataclass(frozen=True)
class Means:
    """One quantity of both modes' episodes.

    Attributes:
        env_id: Safety-Gymnasium id.
        policy: "random", or the checkpoint of the trained one.
        quantity: what was measured.
        episodes: number of episodes in each mode.
        exact: mean in exact mode.
        fast: mean in fast mode.
        difference: mean of fast minus exact, where episode i has the same layouts and random numbers in both modes.
        agrees: whether the interval of the difference contains 0.
    """

    env_id: str
    policy: str
    quantity: str
    episodes: int
    exact: Interval
    fast: Interval
    difference: Interval
    agrees: bool


def compare_means(env_id: str, name: str, make_policy: MakePolicy, *, episodes: int, seed: int) -> list[Means]:
    """Run `episodes` episodes in each mode, and compare the means of their quantities.

    Episode i has the same seed in both modes, and the modes differ only from the first touched vase on. The layouts,
    from which most of the variance comes, therefore cancel in the difference.
    """
    samples = {}
    for mode in ("exact", "fast"):
        env = NavigationEnv(env_id, 1, episodes, mode, seed=seed)
        samples[mode] = run_episodes(env, make_policy(env, seed))
        env.close()
    means = []
    for quantity, exact in samples["exact"].items():
        fast = samples["fast"][quantity]
        difference = Interval.of(fast - exact)
        agrees = abs(difference.mean) <= difference.half_width
        means.append(Means(env_id, name, quantity, episodes, Interval.of(exact), Interval.of(fast), difference, agrees))
    return means


def means_table(means: Sequence[Means]) -> Table:
    """A table with one row per quantity."""
    columns = ("task", "policy", "mean of an episode's", "episodes", "exact", "fast", "fast - exact", "")
    table = Table(
        *columns,
        title="fast-distribution",
        caption=f"± {LEVEL:.0%} intervals; episodes paired by seed. By chance, one in {1 / (1 - LEVEL):.0f} differs.",
    )
    for row in means:
        verdict = "agree" if row.agrees else "differ"
        numbers = (row.exact, row.fast, row.difference)
        table.add_row(row.env_id, row.policy, row.quantity, str(row.episodes), *map(str, numbers), verdict)
    return table
