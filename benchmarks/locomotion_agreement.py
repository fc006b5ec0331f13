"""Compares LocomotionEnv with safety_gymnasium's velocity tasks, step by step."""

import time
from dataclasses import replace

import numpy as np
import torch
from benchmarks.navigation_agreement import Agreement
from benchmarks.navigation_twins import Drift, Pair

from cmaml_pl.envs.locomotion import LocomotionEnv
from cmaml_pl.envs.locomotion.definition import read_definition

BODIES = ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")
IDS = [f"Safety{body}Velocity-v1" for body in BODIES]
SLOWER = 10.0
"""The threshold of the speed is divided by this on both sides, so that random actions exceed it."""


def compare_velocity(env_id: str, *, worlds: int, steps: int | None = None, seed: int = 0) -> Agreement:
    """Step `worlds` worlds beside safety_gymnasium, with random actions, and return their agreement.

    Args:
        env_id: Safety-Gymnasium id of a velocity task.
        worlds: number of worlds; world i has the seed `seed` + i.
        steps: number of steps of each world; None for 1100, so that an episode of 1000 steps ends by its time limit.
        seed: seed of the starts and of the actions.
    """
    started, result, every = time.perf_counter(), Agreement(env_id), np.ones(worlds, np.bool_)
    originals = [read_definition(env_id).original for _ in range(worlds)]
    env = LocomotionEnv(env_id, num_envs=worlds, seed=seed, dtype=torch.float64)
    threshold = env.worlds.definition.threshold / SLOWER
    env.worlds.definition = replace(env.worlds.definition, threshold=threshold)
    for original in originals:
        original._velocity_threshold = threshold
    draw, age = Drift(originals[0].action_space, worlds, seed), np.zeros(worlds, np.intp)
    state = env.reset()
    theirs = np.stack([original.reset(seed=seed + i)[0] for i, original in enumerate(originals)])
    result.note({"observation": Pair(state["observation"][0].numpy(), theirs).difference()}, "at the reset", every)
    for step in range(1100 if steps is None else steps):
        actions, age = draw(), age + 1
        state = env.step(state.set("action", torch.from_numpy(actions)[None]))["next"]
        stepped = [original.step(action) for original, action in zip(originals, actions, strict=True)]
        names = ("observation", "reward", "cost", "terminated")
        both = {
            name: Pair(state[name][0].numpy(), np.reshape(values, (worlds, -1)))
            for name, values in zip(names, zip(*(each[:4] for each in stepped), strict=True), strict=True)
        }
        differences = {name: pair.difference() for name, pair in both.items()}
        result.note(differences, f"at step {step}", every)
        result.steps += worlds
        result.costs += int(state["cost"].sum())
        ended = state["done"][0, :, 0].numpy()
        if (ended != (both["terminated"].original[:, 0] | (age == env.horizon))).any():
            result.first = result.first or f"ends of episodes at step {step}"
        if ended.any():
            result.resets += int(ended.sum())
            age[ended] = 0
            state = env.reset(state.clone().set("_reset", state["done"]))
            theirs = np.stack([original.reset()[0] for original, end in zip(originals, ended, strict=True) if end])
            gap = np.zeros(worlds)
            gap[ended] = Pair(state["observation"][0].numpy()[ended], theirs).difference()
            result.note({"observation": gap}, f"reset after {step}", every)
    if not result.costs:
        result.missing.append("a cost")
    result.seconds = time.perf_counter() - started
    return result
