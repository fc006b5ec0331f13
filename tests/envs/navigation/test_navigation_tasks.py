"""What set_tasks decides: the layout, the goals that follow, and the agent's physical parameters."""

from collections.abc import Callable, Mapping

import mujoco
import numpy as np
import pytest
import torch
from benchmarks.navigation_carrying import Carrier
from benchmarks.navigation_twins import Drift, Twins
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase

from cmaml_pl.envs.navigation import NavigationEnv, placement
from cmaml_pl.envs.navigation.placement import Placer
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")

ENV_ID = "SafetyPointGoal1-v0"
TASKS, ENVS, HORIZON = 2, 2, 40


def make_task(layout_seed: int, **parameters: float) -> Task:
    return Task("layout", layout_seed, layout_seed=layout_seed, cost_limit=25.0, parameters=parameters)


def make_env(env_id: str = ENV_ID, tasks: int = TASKS, envs: int = ENVS, **options) -> NavigationEnv:
    return NavigationEnv(env_id, tasks, envs, num_threads=1, **{"horizon": HORIZON, **options})


def forward(seed: int = 0, steps: int = HORIZON, tasks: int = TASKS, envs: int = ENVS) -> torch.Tensor:
    """Actions (tasks, envs, time, 2): full speed ahead, with a little steering."""
    generator = torch.Generator().manual_seed(seed)
    steering = 0.5 * torch.randn(tasks, envs, steps, 1, generator=generator)
    return torch.cat([torch.ones_like(steering), steering], dim=-1)


def step_through(env: NavigationEnv, actions: torch.Tensor) -> tuple[TensorDictBase, TensorDictBase]:
    """All steps [tasks, envs, time] from a reset, and what the last one leaves, after its automatic reset if due."""
    following = env.reset()
    steps = []
    for t in range(actions.shape[2]):
        step, following = env.step_and_maybe_reset(following.set("action", actions[:, :, t]))
        steps.append(step)
    return torch.stack(steps, dim=2), following


def assert_same_positions(ours: Mapping[str, NDArray[np.float64]], theirs: Mapping[str, NDArray[np.float64]]) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_layout_is_kept_on_every_reset() -> None:
    env = make_env()
    env.set_tasks([make_task(3), make_task(4)])
    env.reset()
    start = env.positions()
    assert start.keys() == {"agent", "goal", "hazards", "vases"}
    for xy in start.values():
        np.testing.assert_array_equal(xy[:, 0], xy[:, 1])  # worlds of one task
        assert not np.allclose(xy[0], xy[1])  # tasks
    steps, following = step_through(env, forward()[:, :, :-1])
    assert not np.allclose(env.positions()["agent"], start["agent"])
    env.step_and_maybe_reset(following.set("action", forward()[:, :, -1]))  # the last step resets automatically
    assert_same_positions(env.positions(), start)
    again, _ = step_through(env, forward()[:, :, :-1])
    assert (again["next", "observation"] == steps["next", "observation"]).all()


def test_layout_is_safety_gymnasiums() -> None:
    for seed in (0, 3, 2**32 - 1):
        twins = Twins(ENV_ID, 2, task=make_task(seed))
        assert twins.reset().difference().max() < 1e-9
        for name, body in {"goal": "goal", "hazards": "hazard7", "vases": "vase0"}.items():
            theirs = twins.originals[0].task.data.body(body).xpos[:2]
            np.testing.assert_allclose(twins.env.positions()[name][0, 1, -1], theirs, atol=1e-9)


def test_other_tasks_have_other_layouts_from_the_next_reset_on() -> None:
    env = make_env()
    env.set_tasks([make_task(3), make_task(4)])
    env.reset()
    start = env.positions()
    env.set_tasks([make_task(3), make_task(5)])
    assert_same_positions(env.positions(), start)
    env.reset()
    for name, xy in env.positions().items():
        np.testing.assert_array_equal(xy[0], start[name][0])
        assert not np.allclose(xy[1], start[name][1])


def test_without_tasks_every_episode_has_a_layout_of_its_own() -> None:
    env = make_env()
    env.reset()
    goals = [env.positions()["goal"]]
    for _ in range(2):
        step_through(env, forward(steps=3))
        env.reset()
        goals.append(env.positions()["goal"])
    assert len(np.unique(np.reshape(goals, (-1, 2)), axis=0)) == 3 * TASKS * ENVS
    env.set_seed(0)
    env.reset()
    np.testing.assert_array_equal(env.positions()["goal"], goals[0])


def test_tasks_end_where_their_number_does() -> None:
    with pytest.raises(ValueError, match="3 tasks"):
        make_env().set_tasks([make_task(1)] * 3)


@pytest.mark.parametrize("env_id", ["SafetyPointGoal1-v0", "SafetyCarPush1-v0", "SafetyPointButton1-v0"])
def test_goals_follow_in_the_same_order_in_every_episode(env_id: str) -> None:
    """The agent is carried to five goals an episode; all of it is what safety_gymnasium does after reset(seed=...)."""
    twins = Twins(env_id, 1, horizon=60, task=make_task(11))
    carrier = Carrier(twins)
    assert twins.reset().difference().max() < 1e-9
    sequences = []
    for _ in range(2):
        draw, goals = Drift(twins.action_space, 1, seed=0), []
        for step in range(60):
            if step % 10 == 5:
                assert carrier.carry(0, "goal")
            both = twins.step(draw())
            assert max(float(difference.max()) for difference in both.differences().values()) < 1e-6
            if both.reached[0]:
                goals.append(twins.env.positions()["goal"][0, 0, 0])
        assert both.ended[0]
        assert twins.reset_ended(both.ended).difference().max() < 1e-9
        sequences.append(goals)
    np.testing.assert_array_equal(sequences[0], sequences[1])
    assert len(sequences[0]) >= 4
    if "Button" not in env_id:  # there are only four buttons
        assert len(np.unique(sequences[0], axis=0)) == len(sequences[0])


def test_episode_ends_where_no_new_goal_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(ENV_ID, 2)
    twins.reset()
    monkeypatch.setattr(Placer, "goal", lambda *_: None)
    monkeypatch.setattr(type(twins.originals[0].task.random_generator), "sample_goal_position", lambda _: False)
    still = np.zeros((2, 2))
    twins.step(still)
    assert Carrier(twins).carry(1, "goal")
    both = twins.step(still)
    assert both.terminated.engine.tolist() == both.terminated.original.tolist() == [False, True]
    assert not both.truncated.engine.any()
    assert all(difference.max() < 1e-6 for difference in both.differences().values())
    assert both.reward.engine[1] > 1
    monkeypatch.undo()
    assert twins.reset_ended(both.ended).difference().max() < 1e-9
    assert not twins.step(still).ended.any()


@pytest.mark.parametrize(
    ("obstruct", "reason"),
    [
        (lambda patch: patch.setattr(placement, "_LAYOUT_TRIES", 0), "its things do not fit"),
        (lambda patch: patch.setattr(placement, "_GOAL_TRIES", 0), "its goal does not fit"),
        (lambda patch: patch.setattr(Placer, "layout", _on_a_hazard), "the agent would start at a cost"),
    ],
)
def test_layout_seed_without_a_layout_is_named(
    obstruct: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make_env()
    env.set_tasks([make_task(7), make_task(8)])
    env.reset()
    env.set_tasks([make_task(7), make_task(123)])
    obstruct(monkeypatch)
    with pytest.raises(UserError, match=rf"{ENV_ID} has no valid layout for layout seed 123 \({reason}\)"):
        env.reset()


def _on_a_hazard(placer: Placer, rng: np.random.RandomState) -> list[tuple[float, float]]:
    corners = [(-1.4, -1.4), (-1.4, 1.4), (1.4, -1.4), (0.0, -1.4), (0.0, 1.4), (-1.4, 0.0), (1.4, 0.0), (1.4, 1.4)]
    return [(0.0, 0.0), (1.0, 1.0), (0.1, 0.0), *corners]


def velocities(env: NavigationEnv, actions: torch.Tensor) -> torch.Tensor:
    """Forward speed of the agents after each step, (tasks, time), m/s."""
    steps, _ = step_through(env, actions)
    speed: torch.Tensor = steps["next", "observation"][:, 0, :, 3]  # after the accelerometer's three
    return speed


def straight(tasks: int, steps: int = HORIZON) -> torch.Tensor:
    return torch.tensor([0.05, 0.0]).expand(tasks, 1, steps, 2)


def test_parameters_change_what_physics_says_they_do() -> None:
    """Point slides along an axis: m dv/dt = g u - d v, with terminal speed g u / d, and g u / m at first."""
    factors = [{}, {"gear": 2.0}, {"damping": 2.0}, {"mass": 2.0}, {"mass": 3.0, "damping": 3.0, "gear": 3.0}]
    env = make_env("SafetyPointGoal0-v0", len(factors), 1, horizon=600, dtype=torch.float64)
    env.set_tasks([make_task(3, **parameters) for parameters in factors])
    first = env.reset()["observation"][:, 0]
    assert (first == first[0]).all(), "the agent sees nothing of its parameters"
    speed = velocities(env, straight(len(factors), steps=300))
    plain = speed[0]
    assert (speed[:, -1] - speed[:, -20]).abs().max() < 2e-3 * plain[-1], "the speed is not terminal yet"
    assert speed[1, -1] / plain[-1] == pytest.approx(2.0, rel=0.02)
    assert speed[2, -1] / plain[-1] == pytest.approx(0.5, rel=0.02)
    assert speed[3, -1] / plain[-1] == pytest.approx(1.0, rel=0.02)
    assert speed[3, 0] / plain[0] == pytest.approx(0.5, rel=0.05)
    torch.testing.assert_close(speed[4], plain, rtol=1e-3, atol=1e-6)


def test_parameters_are_those_of_a_task_from_the_next_reset_on() -> None:
    actions = forward(envs=1)
    env = make_env(envs=1)
    env.set_tasks([make_task(3), make_task(3)])
    plain, _ = step_through(env, actions[:1].expand_as(actions))
    env.set_tasks([make_task(3), make_task(3, gear=0.5, mass=1.5)])

    # until the reset they are as they were
    env.set_tasks([make_task(3), make_task(3)])
    following = env.reset()
    env.set_tasks([make_task(3, gear=2.0), make_task(3, gear=0.5, mass=1.5)])
    early = env.step(following.set("action", actions[:1].expand_as(actions)[:, :, 0]))["next", "observation"]
    assert (early == plain["next", "observation"][:, :, 0]).all()

    env.set_tasks([make_task(3), make_task(3, gear=0.5, mass=1.5)])
    scaled, _ = step_through(env, actions[:1].expand_as(actions))
    assert (scaled["next", "observation"][0] == plain["next", "observation"][0]).all()
    assert (scaled["next", "observation"][1] != plain["next", "observation"][1]).any()

    env.set_tasks([make_task(3, gear=0.5, mass=1.5), make_task(3)])  # the other way about, and back to 1
    swapped, _ = step_through(env, actions[:1].expand_as(actions))
    for row in (0, 1):
        assert (swapped["next", "observation"][row] == scaled["next", "observation"][1 - row]).all()


PARAMETERS = {"mass": 2.5, "damping": 0.4, "gear": 0.6}


@pytest.mark.parametrize("env_id", ["SafetyPointPush1-v0", "SafetyCarGoal1-v0", "SafetyAntRun0-v0"])
def test_parameters_are_a_scaled_model(env_id: str) -> None:
    """The same as scaling safety_gymnasium's own model and letting mj_setConst derive the rest."""
    twins = Twins(env_id, 1, horizon=50, task=make_task(6, **PARAMETERS))
    twins.reset()
    scale_original(twins.originals[0].task, PARAMETERS)
    plain = NavigationEnv(env_id, 1, 1, "exact", 1, dtype=torch.float64)
    plain.set_tasks([make_task(6)])
    plain.reset()
    draw, gap = Drift(twins.action_space, 1, seed=1), 0.0
    for _ in range(50):
        actions = draw()
        both = twins.step(actions)
        assert max(float(difference.max()) for difference in both.differences().values()) < 1e-6
        unscaled = plain.step(TensorDict({"action": torch.from_numpy(actions)[None]}, [1, 1]))["next", "observation"]
        gap = max(gap, float(np.abs(unscaled[0].numpy() - both.observation.engine).max()))
    assert gap > 0.01


def scale_original(task, factors: Mapping[str, float]) -> None:
    model = task.model
    bodies = np.flatnonzero(model.body_rootid == model.body("agent").id)
    model.body_mass[bodies] *= factors["mass"]
    model.body_inertia[bodies] *= factors["mass"]
    model.dof_damping[np.isin(model.dof_bodyid, bodies)] *= factors["damping"]
    model.actuator_gear[:] *= factors["gear"]
    mujoco.mj_setConst(model, mujoco.MjData(model))
    mujoco.mj_forward(model, task.data)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"geer": 2.0}, r"task 9 has the parameter 'geer'.*mass, damping, gear.*Did you mean gear\?"),
        ({"friction": 2.0}, r"task 9 has the parameter 'friction'.*mass, damping, gear\."),
        ({"mass": 0.0}, r"task 9 has mass = 0\.0.*0\.05 to 20"),
        ({"damping": -1.0}, r"task 9 has damping = -1"),
        ({"gear": 20.1}, r"task 9 has gear = 20\.1"),
        ({"gear": float("nan")}, r"task 9 has gear = nan"),
    ],
)
def test_parameters_out_of_range_are_named(parameters: dict[str, float], message: str) -> None:
    env = make_env()
    with pytest.raises(UserError, match=message):
        env.set_tasks([make_task(3), make_task(9, **parameters)])
    env.set_tasks([make_task(3), make_task(9, mass=0.05, damping=20.0)])  # the bounds themselves are in the range
