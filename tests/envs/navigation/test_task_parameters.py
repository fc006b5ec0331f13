"""What a task's parameters do to the engine's worlds: the goal that stays, and what costs."""

import math

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

ENV_ID = "SafetyPointGoal1-v0"
LIDAR = 16


def make_env(num_tasks=2, env_id=ENV_ID, horizon=200, **options):
    return NavigationEnv(env_id, num_tasks, 1, "exact", 1, horizon=horizon, dtype=torch.float64, **options)


def hidden_env(num_tasks=2, **options):
    return make_env(num_tasks, hidden=("goal",), observe_position=True, start=(0.0, 0.0, 0.0), **options)


def make_task(layout_seed=0, **parameters):
    return Task("any", layout_seed, layout_seed=layout_seed, cost_limit=1.0, parameters=parameters)


def run(env, actions):
    """All steps [tasks, time] from a reset with actions (time, tasks, A), and the observations at that reset."""
    following = env.reset()
    first = following["observation"][:, 0]
    steps = []
    for action in actions:
        step, following = env.step_and_maybe_reset(following.set("action", action[:, None]))
        steps.append(step["next"][:, 0])
    return torch.stack(steps, dim=1), first


def straight(num_tasks, steps):
    return torch.tensor([1.0, 0.0], dtype=torch.float64).expand(steps, num_tasks, 2)


def wander(num_tasks, steps, seed=0):
    """The same random actions for all tasks, with long stretches ahead."""
    generator = torch.Generator().manual_seed(seed)
    turns = torch.randn(steps, 1, generator=generator, dtype=torch.float64)
    return torch.stack([torch.ones_like(turns), turns], dim=-1).clamp(-1, 1).expand(steps, num_tasks, 2)


def test_hidden_groups_are_left_out_of_the_observation():
    seen, unseen = make_env(1), make_env(1, hidden=("vases", "goal"))
    size = seen.observation_spec["observation"].shape[-1]
    assert unseen.observation_spec["observation"].shape[-1] == size - 2 * LIDAR
    for env in (seen, unseen):
        env.set_tasks([make_task(3)])
    whole, part = (run(env, wander(1, 30))[0]["observation"] for env in (seen, unseen))
    kept = torch.cat(
        [whole[..., :12], whole[..., 12 + LIDAR : 12 + 2 * LIDAR]], dim=-1
    )  # sensors, goal, hazards, vases
    assert torch.equal(part, kept)


def test_the_position_follows_the_rest_of_the_observation():
    plain, env = make_env(1), make_env(1, observe_position=True)
    for each in (plain, env):
        each.set_tasks([make_task(3)])
    whole, part = (run(each, wander(1, 30))[0]["observation"] for each in (env, plain))
    assert torch.equal(whole[..., :-2], part)
    np.testing.assert_array_equal(whole[0, -1, -2:], env.positions()["agent"][0, 0, 0])


def test_nearness_follows_the_rest_of_the_observation_and_is_that_of_the_lidars():
    plain, env = make_env(1), make_env(1, near=0.3, observe_position=True)
    for each in (plain, env):
        each.set_tasks([make_task(3)])
    whole, part = (run(each, wander(1, 60))[0]["observation"] for each in (env, plain))
    lidars = part[..., 12:]  # goal, hazards, vases, after the sensors
    assert torch.equal(whole[..., : part.shape[-1]], part)
    near = whole[..., part.shape[-1] : -2]
    torch.testing.assert_close(near, torch.exp(-(1 - lidars) * 3 / 0.3) * (lidars > 0), rtol=0, atol=1e-12)


def test_a_lidar_that_reads_nothing_has_no_nearness():
    env = make_env(1, env_id="SafetyPointButton1-v0", near=0.3)
    env.reset()
    worlds = env.worlds
    shown, hidden = (
        worlds.observer.observe(worlds.positions, which) for which in ({}, {"buttons": np.ones(1, dtype=bool)})
    )
    _, changed = (shown != hidden).nonzero()
    lidars = worlds.observer.size - 2 * 4 * LIDAR  # where those of buttons, goal, gremlins and hazards begin
    assert {int(column - lidars) // (4 * LIDAR) for column in changed} == {0, 1}  # a reading and its nearness
    assert (hidden[0, changed] == 0).all()


@pytest.mark.parametrize("near", [0.0, -1.0, math.inf, math.nan])
def test_nearness_needs_a_length(near):
    with pytest.raises(UserError, match="must be a length above 0, in m, or None"):
        make_env(1, near=near)


def test_a_task_can_only_be_revealed_where_there_is_one():
    env = make_env(2, reveal=("goal_x", "goal_y", "mass"))
    with pytest.raises(RuntimeError, match="call set_tasks first"):
        env.reset()
    env.set_tasks([make_task(i, goal_x=1.0 + i, goal_y=0.5, mass=1.5) for i in range(2)])
    steps, first = run(env, wander(2, 5))
    for p in range(2):
        assert first[p, -3:].tolist() == [1.0 + p, 0.5, 1.5]
        assert steps["observation"][p, :, -3:].unique(dim=0).tolist() == [[1.0 + p, 0.5, 1.5]]
    env.set_tasks([make_task(i, goal_x=2.0, goal_y=0.0, mass=1.0) for i in range(2)])
    assert run(env, wander(2, 1))[1][:, -3:].tolist() == [[2.0, 0.0, 1.0]] * 2


def test_a_start_is_safety_gymnasiums_own_location_and_rotation():
    plain = import_safety_gymnasium().make(ENV_ID, disable_env_checker=True).unwrapped
    plain.task.agent.locations, plain.task.agent.rot = [(0.5, -0.2)], 1.0
    env = make_env(1, start=(0.5, -0.2, 1.0))
    env.set_tasks([make_task(5)])
    actions = wander(1, 60)
    steps, first = run(env, actions)
    np.testing.assert_allclose(first[0], plain.reset(seed=5)[0], atol=1e-9)
    for t in range(60):
        observation, reward, cost, *_ = plain.step(actions[t, 0].numpy())
        np.testing.assert_allclose(steps["observation"][0, t], observation, atol=1e-9)
        assert steps["reward"][0, t].item() == pytest.approx(reward, abs=1e-9)
        assert steps["cost"][0, t].item() == cost


def test_the_goal_moves_the_reward_and_is_not_observed():
    env = hidden_env(3)
    env.set_tasks([make_task(2, goal_x=x, goal_y=y) for x, y in ((3.0, 0.0), (0.0, 3.0), (-3.0, 0.0))])
    steps, first = run(env, straight(3, 50))
    for p in (1, 2):
        assert torch.equal(first[p], first[0])
        assert torch.equal(steps["observation"][p], steps["observation"][0])
        assert torch.equal(steps["cost"][p], steps["cost"][0])
    returns = steps["reward"].sum(dim=(1, 2))
    distance = steps["observation"][0, -1, -2:].norm().item()
    assert distance > 0.5
    np.testing.assert_allclose(returns[[0, 2]], [distance, -distance], rtol=0.05)  # toward the one, away from the other
    assert abs(returns[1]) < 0.2


def test_a_layout_says_nothing_about_the_goal():
    env = hidden_env(2)
    env.set_tasks([make_task(4, goal_x=1.2, goal_y=0.0), make_task(4, goal_x=-1.0, goal_y=0.7)])
    env.reset()
    here, there = (({name: xy[p, 0] for name, xy in env.positions().items()}) for p in (0, 1))
    np.testing.assert_array_equal(here["goal"], [[1.2, 0.0]])
    np.testing.assert_array_equal(there["goal"], [[-1.0, 0.7]])
    for name in ("agent", "hazards", "vases"):
        np.testing.assert_array_equal(here[name], there[name])


@pytest.mark.parametrize("env_id", [ENV_ID, "SafetyPointGoal2-v0", "SafetyRacecarGoal1-v0"])
def test_who_reaches_a_goal_that_stays_goes_back_to_the_start_and_on(env_id):
    env = hidden_env(1, env_id=env_id, horizon=120)
    env.set_tasks([make_task(4, goal_x=0.8, goal_y=0.0)])
    steps, first = run(env, straight(1, 120) * env.action_spec.space.high[0, 0, 0])
    reached = (steps["reward"][0, :, 0] > 0.5).nonzero()[:, 0].tolist()
    assert len(reached) >= 2, "the straight way leads to the goal more than once"
    for t in reached:
        assert torch.equal(steps["observation"][0, t], first[0])
    trip = reached[0] + 1
    for key in ("observation", "reward", "cost"):  # every way to the goal is the same
        assert torch.equal(steps[key][0, :trip], steps[key][0, trip : 2 * trip])
    assert steps["reward"][0, :trip].sum() == pytest.approx(1.0 + 0.8 - 0.3, abs=0.05)  # bonus, and way to its edge
    assert not steps["terminated"].any()
    assert steps["truncated"][0, :, 0].nonzero().tolist() == [[119]]
    np.testing.assert_array_equal(env.positions()["goal"][0, 0], [[0.8, 0.0]])


# safety_gymnasium's Ant reads an index from an array of length 1
@pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")
def test_an_agent_that_poses_at_its_start_takes_up_the_same_pose_again():
    env = hidden_env(1, env_id="SafetyAntGoal1-v0", horizon=20)
    env.set_tasks([make_task(4, goal_x=1.0, goal_y=0.0)])
    start = env.reset()["observation"].clone()
    pose = env.worlds.physics.joints(0)
    env.worlds.physics.set_joints(np.array([0]), np.concatenate([[1.0], pose[1:7], np.zeros(len(pose) - 7)])[None])
    after = env.step(TensorDict({"action": torch.zeros(1, 1, 8)}, [1, 1]))["next"]
    assert after["reward"].item() > 1.0
    assert torch.equal(after["observation"], start)
    np.testing.assert_array_equal(env.worlds.physics.joints(0), pose)


def test_a_goal_that_stays_leaves_the_other_worlds_alone():
    env = hidden_env(2)
    env.set_tasks([make_task(4, goal_x=0.8, goal_y=0.0), make_task(4, goal_x=-3.0, goal_y=0.0)])
    both, _ = run(env, straight(2, 60))
    env.set_tasks([make_task(4, goal_x=-3.0, goal_y=0.0)] * 2)
    alone, _ = run(env, straight(2, 60))
    assert (both["reward"][0] > 0.5).any()
    for key in ("observation", "reward", "cost"):
        assert torch.equal(both[key][1], alone[key][1])


def test_a_goal_of_a_push_task_stays_too():
    env = hidden_env(1, env_id="SafetyPointPush1-v0", horizon=20)
    env.set_tasks([make_task(1, goal_x=-1.0, goal_y=0.5)])
    env.reset()
    np.testing.assert_array_equal(env.positions()["goal"][0, 0], [[-1.0, 0.5]])


def test_without_parameters_goals_are_drawn_anew_and_own_groups_cost():
    """A batch may mix tasks with and without parameters: the ones without are Safety-Gymnasium's."""
    mixed, plain = make_env(2), make_env(2)
    mixed.set_tasks([make_task(7, goal_x=1.0, goal_y=1.0, cost_hazards=0.0, cost_vases=1.0, mass=0.5), make_task(7)])
    plain.set_tasks([make_task(7), make_task(7)])
    actions = wander(2, 150)
    ours, theirs = run(mixed, actions)[0], run(plain, actions)[0]
    for key in ("observation", "reward", "cost"):
        assert torch.equal(ours[key][1], theirs[key][1])
    assert not torch.equal(ours["observation"][0], theirs["observation"][0])


@pytest.fixture(scope="module")
def driven():
    """Drives through hazards and into vases, with nothing, hazards, vases, both and all the id has, at a cost."""
    env = make_env(5, "SafetyPointGoal2-v0", horizon=300)
    weights = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    tasks = [make_task(3, cost_hazards=hazards, cost_vases=vases) for hazards, vases in weights]
    env.set_tasks([*tasks, make_task(3)])
    return run(env, wander(5, 300, seed=1))[0]


def test_weights_change_the_cost_and_only_the_cost(driven):
    for key in ("observation", "reward", "terminated", "truncated"):
        for p in range(1, 5):
            assert torch.equal(driven[key][p], driven[key][0])
    nothing, hazards, vases, both, own = driven["cost"][..., 0]
    assert not nothing.any()
    assert hazards.any()
    assert vases.any()
    assert not torch.equal(hazards, vases)
    assert torch.equal(both, torch.maximum(hazards, vases))
    assert torch.equal(own, both)  # Goal2 constrains both


def test_what_the_id_does_not_constrain_can_cost_too():
    env = make_env(2, horizon=400)
    env.set_tasks([make_task(0, cost_vases=1.0, cost_hazards=0.0), make_task(0)])
    env.reset()
    vase = env.positions()["vases"][:, 0, 0]
    qpos = np.stack([env.worlds.physics.joints(world) for world in range(2)])
    heading = np.arctan2(env.worlds.physics.agent_rotation[0, 1, 0], env.worlds.physics.agent_rotation[0, 0, 0])
    turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    qpos[:, :2] = (vase - env.positions()["agent"][:, 0, 0]) @ turn.T  # slides are along the agent's first heading
    env.worlds.physics.set_joints(np.arange(2), qpos)
    following = env.step(TensorDict({"action": torch.zeros(2, 1, 2)}, [2, 1]))["next"]
    assert following["cost"].flatten().tolist() == [1.0, 0.0]


def test_parameters_take_hold_at_the_next_reset():
    env = make_env(2, "SafetyPointGoal2-v0", horizon=300)
    env.set_tasks([make_task(3, cost_hazards=0.0, cost_vases=0.0, goal_x=5.0, goal_y=0.0)] * 2)
    env.reset()
    actions = wander(2, 250, seed=1)
    env.set_tasks([make_task(3)] * 2)
    for action in actions:
        following = env.step(TensorDict({"action": action[:, None]}, [2, 1]))["next"]
        assert not following["cost"].any()
    assert (env.positions()["goal"] == [5.0, 0.0]).all()
    assert run(env, actions)[0]["cost"].any()
    assert (env.positions()["goal"] != [5.0, 0.0]).all()


@pytest.mark.parametrize(
    ("env_id", "parameters", "message"),
    [
        (
            ENV_ID,
            {"cost_vase": 1.0},
            "'cost_vase'; for SafetyPointGoal1-v0 the engine knows goal_x, goal_y, cost_hazards, cost",
        ),
        (ENV_ID, {"cost_vase": 1.0}, "Did you mean cost_vases?"),
        (ENV_ID, {"cost_goal": 1.0}, "has the parameter 'cost_goal'"),
        (ENV_ID, {"cost_vases": -1.0}, "cost_vases = -1.0; a finite weight, at least 0, is needed"),
        (ENV_ID, {"goal_x": 1.0}, "has one of goal_x and goal_y, but a goal needs both"),
        (ENV_ID, {"goal_x": float("nan"), "goal_y": 1.0}, "goal_x = nan; a finite coordinate, m, is needed"),
        (ENV_ID, {"gear": 0.0}, "gear = 0.0; a factor from 0.05 to 20.0 (1 leaves the agent as it is) is needed"),
        (
            "SafetyPointButton1-v0",
            {"goal_x": 1.0, "goal_y": 1.0},
            "'goal_x'; for SafetyPointButton1-v0 the engine knows",
        ),
        ("SafetyPointCircle1-v0", {"cost_hazards": 1.0}, "the engine knows cost_sigwalls, mass, damping, gear."),
    ],
)
def test_a_bad_parameter_is_refused_by_name(env_id, parameters, message):
    env = make_env(1, env_id)
    with pytest.raises(UserError) as error:
        env.set_tasks([make_task(0, **parameters)])
    assert message in str(error.value)


def test_a_goal_at_the_start_is_refused():
    env = hidden_env(1)
    env.set_tasks([make_task(0, goal_x=0.1, goal_y=0.1)])
    with pytest.raises(UserError, match=r"goal_x = 0\.1, goal_y = 0\.1 .* is reached before a step is taken"):
        env.reset()


def test_what_no_lidar_observes_cannot_be_hidden():
    with pytest.raises(UserError) as error:
        make_env(1, hidden=("hazard",))
    assert "hidden has 'hazard', but the lidar of SafetyPointGoal1-v0 observes goal, hazards, vases." in str(
        error.value
    )
    assert "Did you mean hazards?" in str(error.value)
