"""Tests in four parts whether the engines behave like safety_gymnasium.

exact               every id that NavigationEnv runs, in exact mode, beside safety_gymnasium itself: observations,
                    rewards, costs and flags must be the same at every step, also after automatic resets
velocity            the same for every id that LocomotionEnv runs
fast-until-contact  the same as exact for fast mode, as long as nothing but the floor touches the things that may sleep
fast-distribution   episodes of the engine in exact and in fast mode: the means of return, cost, goals reached and
                    displacement of vases must be the same
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.locomotion_agreement import IDS as VELOCITY_IDS
from benchmarks.locomotion_agreement import compare_velocity
from benchmarks.navigation_agreement import Agreement, exact_table
from benchmarks.navigation_carrying import Carrier
from benchmarks.navigation_episodes import (
    MakePolicy,
    Means,
    compare_means,
    load_actor,
    means_table,
    random_policy,
    trained_policy,
)
from benchmarks.navigation_twins import (
    COLLIDING,
    Drift,
    Twins,
    kinds_touched,
    movable_disturbed,
    supported_ids,
)
from numpy.typing import NDArray
from rich.console import Console

from cmaml_pl.errors import UserError

Array = NDArray[np.float64]

_BEYOND = 100
"""Number of steps that are compared after the end of an episode, so that the automatic reset is compared as well."""
_UNTIL_CONTACT_IDS = ("SafetyPointGoal1-v0", "SafetyPointGoal2-v0", "SafetyCarGoal2-v0", "SafetyPointPush1-v0")
_DISTRIBUTION_IDS = ("SafetyPointGoal1-v0", "SafetyPointGoal2-v0", "SafetyCarGoal2-v0")


def compare_exact(
    env_id: str,
    *,
    worlds: int,
    steps: int | None = None,
    seed: int = 0,
    horizon: int | None = None,
    amounts: bool = False,
) -> Agreement:
    """Step `worlds` worlds in exact mode beside safety_gymnasium, and return their agreement.

    Actions are random with a drift. A few times in an episode the agents are carried to places where something happens:
    to the goal, into a hazard, to things that they touch, and to the goal again.

    Args:
        env_id: Safety-Gymnasium id.
        worlds: number of worlds; world i has the seed `seed` + i.
        steps: number of steps of each world; None for an episode and 100 steps of the next one.
        seed: seed of the layouts and of the actions.
        horizon: steps of an episode; None for the id's own.
        amounts: whether a cost is the sum of what a step's hazards and contacts cost, instead of 0 or 1.
    """
    started = time.perf_counter()
    twins, result = Twins(env_id, worlds, seed=seed, horizon=horizon, amounts=amounts), Agreement(env_id)
    every = np.ones(worlds, np.bool_)
    horizon = twins.env.horizon
    steps = horizon + _BEYOND if steps is None else steps
    draw, carrier = Drift(twins.action_space, worlds, seed), Carrier(twins)
    result.note({"observation": twins.reset().difference()}, "at the first reset", every)
    kinds = carrier.kinds
    span = min(horizon, steps)
    # the visits are spread over the last three quarters of the episode
    plan = {round(span * (0.25 + 0.7 * i / len(kinds))): kind for i, kind in enumerate(kinds)}
    for step in range(steps):
        carrier.carry_all(plan.get(step))
        both = twins.step(draw())
        touched = [kinds_touched(twin.task) for twin in twins.originals]
        carrier.see(both, touched)
        result.count(both, touched, every)
        result.note(both.differences(), f"at step {step}", every)
        if any(both.differences()[flag].any() for flag in ("terminated", "truncated")):
            break  # from here on the two sides run different episodes
        if both.ended.any():
            result.resets += int(both.ended.sum())
            result.note({"observation": twins.reset_ended(both.ended).difference()}, f"reset after {step}", every)
    if "goal" in kinds and not result.goals:
        result.missing.append("a goal")
    result.missing += [f"touched {kind}" for kind in kinds if kind in COLLIDING and kind not in result.contacts]
    if not result.costs and any(settings.is_constrained for settings in twins.originals[0].task._obstacles):
        result.missing.append("a cost")
    twins.close()
    result.seconds = time.perf_counter() - started
    return result


def compare_until_contact(env_id: str, *, worlds: int, steps: int | None = None, seed: int = 0) -> Agreement:
    """Step worlds in fast mode beside safety_gymnasium, each until something touches a vase or the box.

    The arguments and the result are those of `compare_exact`, but `steps` None means one episode.
    """
    started = time.perf_counter()
    twins, result = Twins(env_id, worlds, seed=seed, mode="fast"), Agreement(env_id)
    compared = np.ones(worlds, np.bool_)
    draw = Drift(twins.action_space, worlds, seed)
    result.note({"observation": twins.reset().difference()}, "at the first reset", compared)
    for step in range(twins.env.horizon if steps is None else steps):
        both = twins.step(draw())
        compared &= ~np.array([movable_disturbed(twin.task) for twin in twins.originals])
        if not compared.any():
            break
        result.count(both, [kinds_touched(twin.task) for twin in twins.originals], compared)
        result.note(both.differences(), f"at step {step}", compared)
        if both.ended.any():
            twins.reset_ended(both.ended)
    if not result.steps:
        result.missing.append("a step without contact")
    twins.close()
    result.seconds = time.perf_counter() - started
    return result


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("exact", "velocity", "fast-until-contact", "fast-distribution")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; default: all")
    parser.add_argument("--ids", nargs="+", metavar="ID", help="Safety-Gymnasium ids; default: those of each part")
    parser.add_argument("--seeds", type=int, default=3, help="worlds of an id, all but fast-distribution (3)")
    parser.add_argument("--steps", type=int, help="of each world; default: an episode, in exact and velocity 100 more")
    parser.add_argument("--amounts", action="store_true", help="compare amounts of cost in place of 0 and 1, exact")
    parser.add_argument("--episodes", type=int, default=200, help="of each mode, fast-distribution (200)")
    parser.add_argument("--policy", type=Path, metavar="CKPT", help="checkpoint, without near, of fast-distribution")
    parser.add_argument("--seed", type=int, default=0, help="first seed (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes, all but fast-distribution (1)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON with all numbers")
    parsed = parser.parse_args(arguments)
    for part in parsed.parts:
        if part not in parts:
            parser.error(f"{part} is no part: choose from {', '.join(parts)}")
    parsed.parts = parsed.parts or list(parts)
    return parsed


def compare_all(
    compare: Callable[..., Agreement], ids: Sequence[str], arguments: argparse.Namespace, progress: Console
) -> list[Agreement]:
    """The results of a comparison for every id, run in `arguments.jobs` processes."""
    one = partial(compare, worlds=arguments.seeds, steps=arguments.steps, seed=arguments.seed)
    results: list[Agreement] = []

    def report(result: Agreement) -> None:
        results.append(result)
        progress.print(f"{result.env_id}: {'equal' if result.agrees else 'NOT EQUAL'} ({result.seconds:.0f} s)")

    if arguments.jobs == 1:
        for env_id in ids:
            report(one(env_id))
        return results
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for result in pool.map(one, ids):
            report(result)
    return results


def compare_distributions(arguments: argparse.Namespace) -> list[Means]:
    """The means of both modes: for the random policy and, if there is one, for the trained policy.

    By default the trained policy runs only on the first two ids of the part, which have the same agent.
    """
    policies: list[tuple[str, MakePolicy, Sequence[str]]] = [("random", random_policy, _DISTRIBUTION_IDS)]
    if arguments.policy is not None:
        trained = partial(trained_policy, load_actor(arguments.policy))
        policies.append((str(arguments.policy), trained, _DISTRIBUTION_IDS[:2]))
    means = []
    for name, make_policy, ids in policies:
        for env_id in arguments.ids or ids:
            means += compare_means(env_id, name, make_policy, episodes=arguments.episodes, seed=arguments.seed)
    return means


def _chosen(given: list[str] | None, default: Sequence[str]) -> Sequence[str]:
    return default if given is None else given


def main() -> int:
    """Run the parts, print their results, and return the exit code.

    The code is 0 for agreement, 1 if the engine differs from safety_gymnasium, and 2 for bad input.
    """
    arguments = parse_arguments()
    # output to a file is as wide as the tables
    console, progress = Console(width=None if sys.stdout.isatty() else 150), Console(stderr=True)
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    equal = True
    velocity = [env_id for env_id in arguments.ids or VELOCITY_IDS if "Velocity" in env_id]
    arguments.ids = arguments.ids and [env_id for env_id in arguments.ids if env_id not in velocity]
    comparisons: dict[str, tuple[Callable[..., Agreement], Sequence[str]]] = {
        "exact": (partial(compare_exact, amounts=arguments.amounts), _chosen(arguments.ids, supported_ids())),
        "velocity": (compare_velocity, velocity),
        "fast-until-contact": (compare_until_contact, _chosen(arguments.ids, _UNTIL_CONTACT_IDS)),
    }
    try:
        for part, (compare, ids) in comparisons.items():
            if part in arguments.parts and ids:
                results = compare_all(compare, ids, arguments, progress)
                console.print(exact_table(results, part))
                report[part] = [asdict(result) for result in results]
                equal = equal and all(result.agrees for result in results)
        if "fast-distribution" in arguments.parts and arguments.ids != []:
            means = compare_distributions(arguments)
            console.print(means_table(means))
            report["fast-distribution"] = [asdict(row) for row in means]
    except UserError as error:
        progress.print(str(error))
        return 2
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
