"""Gymnasium environments of a user's own as one batch of worlds."""

import os
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from tests.commands import python_path
from tests.envs.own_worlds import ENVS, STEPS, random_rollout

from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.envs.gymnasium_env import GymnasiumEnv, GymnasiumWorld
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task
from cmaml_pl.tasks.gymnasium import GymnasiumFamily

MASSES = (0.5, 1.0, 2.0)


def roll_out(*, workers=1, rank=0, ranks=1, **settings):
    """Random actions in worlds of pendulums with several masses, of which rank `rank` steps its part."""

    def make_env(rows):
        return GymnasiumEnv("Pendulum-v1", rows, ENVS, horizon=5, num_workers=workers, **settings)

    return random_rollout(make_env, "m", MASSES, rank=rank, ranks=ranks)


class Needy(gymnasium.Env[Any, Any]):
    """An environment whose constructor needs its parameter."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, wind):
        self.wind = wind

    def reset(self, *, seed=None, options=None):
        return np.array([self.wind], np.float32), {}


def test_a_constructor_may_need_a_tasks_parameters():
    gymnasium.register("Needy-v0", Needy)
    family = GymnasiumFamily(env_id=f"{__name__}:Needy-v0", parameters={"wind": [0.25, 0.75]}, given_as="keywords")
    world = GymnasiumWorld(family.env_id, {"wind": 0.25}, 5, "keywords", None)
    world.set_task(family.task(0, cost_limit=1.0))
    assert world.reset()[0] == pytest.approx(family.task(0, cost_limit=1.0).parameters["wind"])


def test_whole_numbers_in_a_file_are_numbers():
    config = load_experiment("nav2d", ["tasks.family=gymnasium", "tasks.parameters={m: [1, 2]}"])
    assert 1 <= config.tasks.task(0, cost_limit=1.0).parameters["m"] <= 2


def test_its_numbers_are_those_of_gymnasium():
    rollout, actions = roll_out()
    for p, mass in enumerate(MASSES):
        for e in range(ENVS):
            plain = gymnasium.make("Pendulum-v1", max_episode_steps=5)
            plain.unwrapped.m = mass
            observation, _ = plain.reset(seed=3 + p * ENVS + e)
            for t in range(STEPS):
                np.testing.assert_array_equal(rollout["observation"][p, e, t], observation)
                observation, reward, *ends, _ = plain.step(actions[t, p, e].clamp(-2, 2).numpy())
                after = rollout["next"][p, e, t]
                np.testing.assert_array_equal(after["observation"], observation)
                assert after["reward"].item() == pytest.approx(reward, rel=1e-6)
                assert [after["terminated"].item(), after["truncated"].item()] == ends
                if any(ends):
                    observation, _ = plain.reset()


def test_neither_workers_nor_ranks_change_a_number():
    whole, _ = roll_out()
    assert torch.equal(whole["observation"], roll_out(workers=2)[0]["observation"])
    parts = [roll_out(rank=rank, ranks=3)[0]["observation"] for rank in range(3)]
    assert torch.equal(whole["observation"], torch.cat(parts))


def costly(observation, action, reward, info):
    return 10.0 * abs(float(action[0]))


def test_a_function_can_say_what_a_step_costs():
    rollout, actions = roll_out(cost=f"{__name__}:costly")
    torch.testing.assert_close(rollout["next", "cost"][..., 0], 10 * actions.clamp(-2, 2).abs()[..., 0].movedim(0, 2))


def test_parameters_can_be_keywords_of_the_constructor():
    def first_rewards(parameters):
        env = GymnasiumEnv("Pendulum-v1", 2, 1, horizon=5, num_workers=1, given_as="keywords", options={"g": 9.0})
        env.set_tasks([Task("x", i, i, 1.0, own) for i, own in enumerate(parameters)])
        env.set_seed(0)
        state = env.reset()
        for _ in range(3):
            state = env.step(state.set("action", torch.zeros(2, 1, 1)))["next"]
        env.close()
        return state["observation"]

    same, other = first_rewards([{}, {"g": 9.0}]), first_rewards([{}, {"g": 1.0}])
    assert torch.equal(same[0], other[0])
    assert not torch.equal(same[1], other[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env_id": "Pendulun-v1"}, r"tasks\.env_id is 'Pendulun-v1', which Gymnasium cannot make: .*Pendulum"),
        ({"env_id": "nowhere:Pendulum-v1"}, r"tasks\.env_id is 'nowhere:Pendulum-v1', .*nowhere"),
        ({"env_id": "CartPole-v1"}, r"tasks\.env_id is 'CartPole-v1', but its actions are Discrete\(2\): vectors"),
        ({"options": {"h": 1}}, r"cannot make with h of tasks\.options and tasks\.parameters: TypeError: .*'h'"),
        ({"cost": "nowhere:cost"}, r"tasks\.cost is 'nowhere:cost', which cannot be imported"),
        ({"parameters": {"mass": [0, 1]}, "given_as": "keywords"}, r"cannot make with mass of .*: TypeError: .*'mass'"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(settings, message):
    with pytest.raises(UserError, match=message):
        GymnasiumFamily(**settings).make_env(1, 1, horizon=5, workers=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cost": "price"}, r"tasks\.cost is 'price', but a step of Pendulum-v1 has only nothing in its info"),
        ({"parameters": {"mass": [0, 1]}}, r"tasks\.parameters has mass, but Pendulum-v1 has no attribute"),
    ],
)
def test_what_a_world_finds_is_told_by_the_worker(settings, message):
    family = GymnasiumFamily(**settings)
    env = family.make_env(1, 1, horizon=5, workers=1)

    def step():
        env.set_tasks([family.task(0, cost_limit=1.0)])
        env.rollout(1, policy=lambda td: td.set("action", env.action_spec.zero()))

    with pytest.raises(UserError, match=message):
        step()
    env.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": {"m": [2.0, 1.0]}}, r"tasks\.parameters\.m is \[2\.0, 1\.0\], but must be \[low, high\]"),
        ({"outside_parameters": {"m": [0.0, 1.0]}}, r"tasks\.outside_parameters has m, which tasks\.parameters does"),
        ({"parameters": {"m": "[0, 1]"}}, r"tasks\.parameters\.m is \[0, 1\], but must be \[low, high\]"),
        ({"parameters": {"m": [0.0, np.inf]}}, r"tasks\.parameters\.m is \[0\.0, inf\], but must be \[low, high\]"),
        ({"parameters": {"limit": [0.0, 1.0]}}, r"tasks\.parameters has limit, which is the name"),
        ({"parameters": {"m": [0.0, 1.0]}, "test_range": "outside"}, r"tasks\.outside_parameters is empty"),
    ],
)
def test_a_bad_range_is_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        GymnasiumFamily(**settings)


def test_making_an_environment_prints_nothing():
    code = """
from cmaml_pl.tasks.gymnasium import GymnasiumFamily
from cmaml_pl.tasks.target_velocity import TargetVelocityFamily
if __name__ == "__main__":
    for family in (GymnasiumFamily(), TargetVelocityFamily()):
        family.make_env(1, 1, horizon=5, workers=1).close()
"""
    own = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own, check=True)
    assert done.stdout + done.stderr == ""


class Spoilt(Needy):
    """Has a fault, which `fault` names."""

    fault = None

    def __init__(self):
        super().__init__(0.0)

    def reset(self, *, seed=None, options=None):
        seen = np.zeros(3 if self.fault == "longer reset" else 1)
        return seen if self.fault == "no info" else (seen, {})

    def step(self, action):
        if self.fault == "failing":
            np.linalg.inv(np.zeros((1, 1)))
        wrong = {"longer": np.zeros(3), "words": "far"}
        reward, cost = (None, 1.0) if self.fault == "no reward" else (np.ones(1), self.fault)
        values = wrong.get(self.fault, np.zeros(1)), reward, False, False, {"cost": cost}
        return values[:4] if self.fault == "four" else values


def words(*step):
    return "high"


def broken(*step):
    return step[7]


WHO, HERE = r"tasks\.env_id is 'Spoilt-v0', whose", r"\(test_gymnasium_env.py, line \d+\)"


@pytest.mark.filterwarnings("ignore:.*Overriding environment:UserWarning")
@pytest.mark.parametrize(
    ("fault", "cost", "message"),
    [
        ("failing", None, rf"{WHO} step fails: LinAlgError: Singular matrix {HERE}\."),
        ("four", None, rf"{WHO} step {HERE} does not do step\(action\) -> .*: ValueError: not enough values to unpack"),
        ("longer", None, rf"{WHO} step {HERE} gives an observation of shape \(3,\), but its space has \(1,\)"),
        ("words", None, rf"{WHO} step {HERE} gives the observation 'far'; numbers are needed"),
        ("no reward", None, rf"{WHO} step {HERE} gives the reward None; a number is needed"),
        ("high", "cost", rf"{WHO} step {HERE} gives the cost 'high'; a number is needed"),
        ("longer reset", None, rf"{WHO} reset {HERE} gives an observation of shape \(3,\)"),
        ("no info", None, rf"{WHO} reset {HERE} does not do reset\(.*\) -> \(observation, info\): ValueError"),
        (None, f"{__name__}:words", r"tasks\.cost is '.*:words', which gives 'high'; a number is needed"),
        (None, f"{__name__}:broken", rf"tasks\.cost is '.*:broken', which fails: IndexError: .* {HERE}\."),
    ],
)
def test_a_fault_is_told_with_its_place(fault, cost, message):
    gymnasium.register("Spoilt-v0", Spoilt)
    world = GymnasiumWorld("Spoilt-v0", {}, 5, "attributes", cost)
    world.set_task(Task("x", 0, 0, 1.0, {"fault": fault}))

    def play():
        world.reset()
        world.step(np.zeros(1, np.float32))

    with pytest.raises(UserError, match=message):
        play()
