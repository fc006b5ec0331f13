"""LocomotionEnv: the numbers of Safety-Gymnasium's velocity tasks, tasks with other bodies, and what is refused."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from cmaml_pl.envs import LocomotionEnv
from cmaml_pl.envs.locomotion.definition import read_definition
from cmaml_pl.envs.locomotion_rules import Rules
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

IDS = [f"Safety{body}Velocity-v1" for body in ("HalfCheetah", "Hopper", "Walker2d", "Ant", "Humanoid")]
WORLDS, SEED = 2, 3
LOW = 0.3
"""A threshold that random actions exceed, m/s."""


def drive(env, actions, originals=None):
    """Yields what `env` and the originals give for each of `actions`, (steps, WORLDS, A); who falls is reset."""
    state = env.reset()
    seen = [original.reset(seed=SEED + i)[0] for i, original in enumerate(originals or ())]
    yield state, seen, None
    for action in actions:
        state["action"] = torch.from_numpy(action)[None]
        state = env.step(state)["next"]
        theirs = [original.step(a)[:4] for original, a in zip(originals or (), action, strict=bool(originals))]
        yield state, [each[0] for each in theirs], theirs
        fallen = state["terminated"][0, :, 0]
        if fallen.any():
            state = env.reset(state.clone().set("_reset", state["terminated"]))
            seen = [o.reset()[0] for o, ended in zip(originals or (), fallen.tolist(), strict=bool(originals)) if ended]
            for mine, own in zip(state["observation"][0][fallen], seen, strict=bool(originals)):
                np.testing.assert_array_equal(mine, own)


@pytest.mark.parametrize("env_id", IDS)
def test_its_numbers_are_those_of_safety_gymnasium(env_id):
    """To the bit, with actions beyond the actuators' ranges, and through falls and the resets after them."""
    env = LocomotionEnv(env_id, num_envs=WORLDS, seed=SEED, dtype=torch.float64)
    originals = [read_definition(env_id).original for _ in range(WORLDS)]
    assert env.worlds.definition.threshold == originals[0]._velocity_threshold
    env.worlds.definition = replace(env.worlds.definition, threshold=LOW)  # the real ones are beyond random actions
    for original in originals:
        original._velocity_threshold = LOW
    space, rng = originals[0].action_space, np.random.default_rng(0)
    actions = rng.uniform(1.3 * space.low, 1.3 * space.high, (300, WORLDS, *space.shape))
    ends = costs = 0
    for state, seen, theirs in drive(env, actions, originals):
        np.testing.assert_array_equal(state["observation"][0], seen)
        if theirs is not None:
            names = ("reward", "cost", "terminated")
            for name, own in zip(names, zip(*(each[1:] for each in theirs), strict=True), strict=True):
                np.testing.assert_array_equal(state[name][0, :, 0], own, err_msg=name)
            ends += int(state["terminated"].sum())
            costs += float(state["cost"].sum())
    assert (ends > 0) == (env_id != "SafetyHalfCheetahVelocity-v1"), "only the HalfCheetah cannot fall"
    assert costs > 0


def test_threads_and_the_order_of_resets_change_nothing():
    def returns(num_threads):
        env = LocomotionEnv("SafetyHopperVelocity-v1", num_envs=5, num_threads=num_threads, seed=1)
        actions = np.random.default_rng(0).uniform(-1, 1, (100, 5, 3)).astype(np.float32)
        return torch.stack([state["observation"].clone() for state, *_ in drive(env, actions)])

    assert torch.equal(returns(1), returns(2))


def test_an_episode_is_truncated_at_its_horizon():
    env = LocomotionEnv("SafetyHalfCheetahVelocity-v1", num_envs=2, horizon=7)
    states = [state for state, *_ in drive(env, np.zeros((7, 2, 6), np.float32))][1:]
    assert [state["truncated"].all().item() for state in states] == [False] * 6 + [True]
    assert not any(state["terminated"].any() for state in states)


def step_with(rules, parameters, env_id="SafetyHalfCheetahVelocity-v1", steps=20):
    """Steps of two tasks, the first without parameters: what they gave, beside the original's, and the effort."""
    env = LocomotionEnv(env_id, num_tasks=2, num_envs=1, dtype=torch.float64, rules=rules, horizon=100)
    env.set_tasks([Task("test", i, 0, 25.0, own) for i, own in enumerate(({}, parameters))])
    plain = LocomotionEnv(env_id, num_tasks=2, num_envs=1, dtype=torch.float64, horizon=100)
    actions = np.random.default_rng(1).uniform(-1.5, 1.5, (steps, 2, 1, plain.action_spec.shape[-1]))
    found = {"reward": [], "cost": [], "velocity": [], "own": []}
    states, worlds = [env.reset(), plain.reset()], env.worlds
    for action in actions:
        before = worlds.physics.place().copy()
        given = [state.set("action", torch.from_numpy(action)) for state in states]
        states = [env.step(given[0])["next"], plain.step(given[1])["next"]]
        assert torch.equal(states[0]["observation"], states[1]["observation"])
        found["velocity"].append((worlds.physics.place() - before) / worlds.definition.seconds)
        for name in ("reward", "cost"):
            found[name].append(states[0][name][:, 0, 0].numpy())
        found["own"].append(states[1]["reward"][:, 0, 0].numpy())
    return env, {name: np.array(values) for name, values in found.items()}, np.square(actions).sum(axis=(2, 3))


def test_a_target_velocity_is_rewarded_by_how_near_the_body_moves_to_it():
    rules = Rules(reward="target_velocity", control_weight=0.05)
    env, found, effort = step_with(rules, {"target_velocity": 1.5})
    distance = np.abs(found["velocity"][:, :, 0] - [0.0, 1.5])
    np.testing.assert_allclose(found["reward"], -distance - 0.05 * effort)
    np.testing.assert_allclose(env.positions()["target"][:, 0, 0], [[0.0, 0.0], [1.5 * 20 * 0.05, 0.0]])


def test_a_target_direction_is_rewarded_by_the_velocity_along_it():
    x, y = np.cos(0.7), np.sin(0.7)
    rules = Rules(reward="target_direction", control_weight=0.0)
    _, found, _ = step_with(rules, {"direction_x": x, "direction_y": y}, "SafetyAntVelocity-v1")
    along = np.stack([found["velocity"][:, 0, 0], found["velocity"][:, 1] @ [x, y]], axis=1)
    np.testing.assert_allclose(found["reward"], along + 1.0)  # an Ant that is alive has 1 in each step


def test_forward_with_the_bodys_own_terms_is_the_originals_reward():
    _, found, _ = step_with(Rules(cost="control"), {})
    np.testing.assert_array_equal(found["reward"], found["own"])


def test_the_control_cost_is_of_the_raw_action():
    _, found, effort = step_with(Rules(cost="control", cost_weight=0.1), {})
    np.testing.assert_allclose(found["cost"], 0.1 * effort)
    assert (effort > 6).any(), "more than any action within the actuators' ranges"


def test_the_height_cost_counts_steps_with_the_head_below_a_height():
    env, found, _ = step_with(Rules(cost="height", lowest_head=0.7), {}, steps=60)
    heads = env.worlds.physics.head()
    assert set(found["cost"].ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(found["cost"][-1], heads < 0.7)
    model, data = env.worlds.physics.model, mujoco.MjData(env.worlds.physics.model)
    mujoco.mj_forward(model, data)
    assert data.geom("head").xpos[2] == pytest.approx(0.8)


def rollout_of(parameters):
    env = LocomotionEnv("SafetyHalfCheetahVelocity-v1", num_tasks=2, num_envs=1, dtype=torch.float64)
    env.set_tasks([Task("test", i, 0, 25.0, own) for i, own in enumerate(({}, parameters))])
    env.worlds._streams = [np.random.default_rng(0) for _ in range(2)]  # equal starts
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 1, 6)).repeat(2, axis=1)
    state = env.reset()
    observations = []
    for action in actions:
        state["action"] = torch.from_numpy(action)[:, None]
        state = env.step(state)["next"]
        observations.append(state["observation"].clone())
    return env, torch.stack(observations)


@pytest.mark.parametrize("name", ["mass", "damping", "gear", "friction"])
def test_a_task_changes_the_body(name):
    env, observations = rollout_of({name: 1.5})
    assert not torch.allclose(observations[:, 0], observations[:, 1])
    field = {"mass": "body_mass", "damping": "dof_damping", "gear": "actuator_gear", "friction": "geom_friction"}[name]
    own, other = (getattr(env.worlds.physics._batch.get_model(world), field) for world in (0, 1))
    np.testing.assert_allclose(other, 1.5 * own)


def test_a_factor_of_one_changes_nothing():
    _, observations = rollout_of({"mass": 1.0})
    assert torch.equal(observations[:, 0], observations[:, 1])


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("SafetyPointGoal1-v0", "SafetyPointGoal1-v0 is not a velocity task .* SafetyHopperVelocity-v1"),
        ("SafetyHoperVelocity-v1", "no Safety-Gymnasium task .* SafetyHopperVelocity-v1"),
        ("SafetySwimmerVelocity-v1", "MuJoCo .* does not load the model of SafetySwimmerVelocity-v1: .* 'collision'"),
    ],
)
def test_an_id_that_cannot_be_run_is_refused_with_the_reason(env_id, message):
    with pytest.raises(UserError, match=message):
        LocomotionEnv(env_id)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"goal_x": 1.0}, "task 0 has 'goal_x'; SafetyHopperVelocity-v1 knows mass, damping, gear, friction, "),
        ({"direction_x": 0.0, "direction_y": 1.0}, "task 0 goes sideways, but SafetyHopperVelocity-v1 moves forward"),
        ({"mass": 0.0}, "mass of task 0 is 0, but a factor is more than 0"),
        ({"gear": float("nan")}, "gear of task 0 is nan"),
    ],
)
def test_a_task_that_the_body_does_not_have_is_refused(parameters, message):
    env = LocomotionEnv("SafetyHopperVelocity-v1", num_envs=1, rules=Rules(reward="target_direction"))
    with pytest.raises(UserError, match=message):
        env.set_tasks([Task("test", 0, 0, 25.0, parameters)])


@pytest.mark.parametrize(
    ("name", "message"),
    [("reward", r"reward is 'forwad'; choose from forward, .* Did you mean forward"), ("cost", r"cost is 'forwad'")],
)
def test_rules_that_do_not_exist_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        Rules(**{name: "forwad"})


def test_a_cost_that_the_body_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"tasks\.cost is height, .* SafetyHopperVelocity-v1 takes velocity or control"):
        LocomotionEnv("SafetyHopperVelocity-v1", rules=Rules(cost="height"))


def test_mujocos_warnings_about_old_models_are_not_shown(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    LocomotionEnv("SafetyHalfCheetahVelocity-v1", num_envs=1)
    assert not list(tmp_path.iterdir())
    assert "WARNING" not in "".join(capfd.readouterr())


def test_there_is_only_the_exact_mode():
    with pytest.raises(UserError, match="mode is 'fast'; choose from exact"):
        LocomotionEnv("SafetyHopperVelocity-v1", mode="fast")
