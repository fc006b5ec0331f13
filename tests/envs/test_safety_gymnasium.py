"""Safety-Gymnasium's own tasks as one batch of worlds; test_safety_gymnasium_workers.py has the processes behind it."""

import multiprocessing
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from torchrl.collectors import Collector
from torchrl.envs.utils import check_env_specs

from cmaml_pl.envs import NavigationEnv
from cmaml_pl.envs.safety_gymnasium import ParallelSafetyEnv
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

ENV_ID = "SafetyPointGoal1-v0"
TASKS, ENVS, HORIZON = 2, 2, 60
SEEDS = (0, 4)
"""Layouts in which `forward` drives through a hazard and into the goal."""


def make_tasks(*layout_seeds: int) -> list[Task]:
    return [Task("layout", seed, layout_seed=seed, cost_limit=25.0) for seed in layout_seeds]


@pytest.fixture(scope="module")
def shared_env() -> Iterator[ParallelSafetyEnv]:
    env = ParallelSafetyEnv(ENV_ID, TASKS, ENVS, horizon=HORIZON, num_workers=2)
    yield env
    env.close()


@pytest.fixture
def env(shared_env: ParallelSafetyEnv) -> ParallelSafetyEnv:
    shared_env.set_tasks(make_tasks(*SEEDS))
    return shared_env


def forward(seed: int = 0) -> torch.Tensor:
    """Actions (tasks, envs, time, 2): full speed ahead, with a little steering, and beyond the action space."""
    generator = torch.Generator().manual_seed(seed)
    steering = 0.5 * torch.randn(TASKS, ENVS, HORIZON, 1, generator=generator)
    return torch.cat([torch.full_like(steering, 1.5), steering], dim=-1)


def step_through(env: ParallelSafetyEnv, actions: torch.Tensor) -> tuple[TensorDictBase, TensorDictBase]:
    """All steps [tasks, envs, time] from a reset, and what the last one leaves, after its automatic reset if due."""
    following = env.reset()
    steps = []
    for t in range(actions.shape[2]):
        step, following = env.step_and_maybe_reset(following.set("action", actions[:, :, t]))
        steps.append(step)
    return torch.stack(steps, dim=2), following


def positions(env: ParallelSafetyEnv) -> NDArray[np.float64]:
    """Where all bodies are, (tasks, envs, bodies, 3)."""
    return np.array([list(world.values()) for world in env.body_positions()]).reshape(TASKS, ENVS, -1, 3)


def test_specs_hold(env: ParallelSafetyEnv) -> None:
    with torch.random.fork_rng():  # the check itself draws actions
        check_env_specs(env)
    assert env.batch_size == (TASKS, ENVS)
    assert env.observation_spec["observation"].shape == (TASKS, ENVS, 60)
    assert (env.action_spec.space.low == -1).all()
    assert (env.action_spec.space.high == 1).all()


def test_collector_gives_whole_episodes() -> None:
    env = ParallelSafetyEnv(ENV_ID, TASKS, ENVS, horizon=HORIZON, num_workers=2)
    env.set_tasks(make_tasks(*SEEDS))
    policy = TensorDictModule(lambda o: torch.zeros(*o.shape[:-1], 2), in_keys=["observation"], out_keys=["action"])
    collector = Collector(
        env,
        policy,
        frames_per_batch=TASKS * ENVS * HORIZON,
        total_frames=-1,
        reset_at_each_iter=True,
        auto_register_policy_transforms=False,
    )
    batches = iter(collector)
    first, second = next(batches), next(batches)
    assert first.shape == (TASKS, ENVS, HORIZON)
    for key in ("observation", ("next", "observation"), ("next", "reward"), ("next", "cost")):
        assert first[key].dtype == torch.float32
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    assert first["next", "reward"].shape == first["next", "cost"].shape == (TASKS, ENVS, HORIZON, 1)
    last = torch.arange(HORIZON).view(1, 1, HORIZON, 1) == HORIZON - 1
    assert (first["next", "truncated"] == last).all()
    assert (first["next", "done"] == last).all()
    assert not first["next", "terminated"].any()
    collector.shutdown()
    assert env.is_closed


def test_stream_is_plain_safety_gymnasium(env: ParallelSafetyEnv) -> None:
    actions = forward()
    steps, _ = step_through(env, actions)
    plain = import_safety_gymnasium().make(ENV_ID)
    for task, seed in enumerate(SEEDS):
        observation, _ = plain.reset(seed=seed)
        for t in range(HORIZON):
            step = steps[task, 1, t]
            np.testing.assert_array_equal(step["observation"], observation.astype(np.float32))
            observation, reward, cost, terminated, _, _ = plain.step(actions[task, 1, t].clamp(-1, 1).numpy())
            np.testing.assert_array_equal(step["next", "observation"], observation.astype(np.float32))
            assert step["next", "reward"].item() == np.float32(reward)
            assert step["next", "cost"].item() == cost
            assert step["next", "terminated"].item() == terminated
    assert steps["next", "cost"].sum() > 0, "the test drives through no hazard: choose other layouts"


def test_layout_is_kept_on_every_reset(env: ParallelSafetyEnv) -> None:
    env.reset()
    start = positions(env)
    np.testing.assert_array_equal(start[:, 0], start[:, 1])  # worlds of one task
    assert not np.allclose(start[0], start[1])  # tasks
    steps, following = step_through(env, forward()[:, :, :-1])
    assert not np.allclose(positions(env), start)
    env.step_and_maybe_reset(following.set("action", forward()[:, :, -1]))  # the last step resets automatically
    np.testing.assert_array_equal(positions(env), start)
    env.reset()
    np.testing.assert_array_equal(positions(env), start)
    again, _ = step_through(env, forward()[:, :, :-1])
    assert (again["next", "observation"] == steps["next", "observation"]).all()


def test_positions_are_those_of_the_navigation_engine(env: ParallelSafetyEnv) -> None:
    env.reset()
    found = env.positions()
    engine = NavigationEnv(ENV_ID, TASKS, ENVS, mode="exact", num_threads=1, horizon=HORIZON)
    engine.set_tasks(make_tasks(*SEEDS))
    engine.reset()
    expected = engine.positions()
    assert found.keys() == expected.keys()
    for name, xy in expected.items():
        np.testing.assert_allclose(found[name], xy, atol=1e-6, err_msg=name)


def test_other_tasks_have_other_layouts(env: ParallelSafetyEnv) -> None:
    first = env.reset()["observation"]
    start = positions(env)
    env.set_tasks(make_tasks(SEEDS[0], 1000))
    second = env.reset()["observation"]
    np.testing.assert_array_equal(positions(env)[0], start[0])
    assert not np.allclose(positions(env)[1], start[1])
    assert (first[0] == second[0]).all()
    assert (first[1] != second[1]).any()


def test_partial_reset_leaves_other_worlds_alone(env: ParallelSafetyEnv) -> None:
    _, following = step_through(env, forward()[:, :, :5])
    before = positions(env)
    chosen = torch.tensor([[True, False], [False, True]])[..., None]
    result = env.reset(following.set("_reset", chosen))
    moved = (positions(env) != before).any(axis=(2, 3))
    np.testing.assert_array_equal(moved, chosen[..., 0].numpy())
    kept = ~chosen[..., 0]
    assert (result["observation"][kept] == following["observation"][kept]).all()


def test_actions_are_clipped(env: ParallelSafetyEnv) -> None:
    wild = 5 * torch.randn(TASKS, ENVS, 10, 2, generator=torch.Generator().manual_seed(0))
    steps, _ = step_through(env, wild)
    tame, _ = step_through(env, wild.clamp(-1, 1))
    assert (steps["next", "observation"] == tame["next", "observation"]).all()
    assert (steps["action"] == wild).all()  # the batch keeps what the policy drew


def test_tasks_must_be_given(env: ParallelSafetyEnv) -> None:
    with pytest.raises(ValueError, match="3 tasks"):
        env.set_tasks(make_tasks(1, 2, 3))
    new = ParallelSafetyEnv(ENV_ID, 1, 1, num_workers=1)
    with pytest.raises(UserError, match="set_tasks"):
        new.reset()
    new.close()


@pytest.mark.parametrize(
    ("env_id", "nearest"), [("SafetyPointGoal-v0", "SafetyPointGoal1-v0"), ("SafetyPointGoal1Vision-v0", "PointGoal1")]
)
def test_unknown_id_names_the_nearest(env_id: str, nearest: str) -> None:
    before = multiprocessing.active_children()
    with pytest.raises(UserError, match=rf"tasks\.env_id.*{env_id}.*{nearest}"):
        ParallelSafetyEnv(env_id, 1, 1)
    assert multiprocessing.active_children() == before


@pytest.mark.parametrize("near", [0.0, -1.0, float("inf"), float("nan")])
def test_nearness_needs_a_length(near: float) -> None:
    with pytest.raises(UserError, match="must be a length above 0, in m, or None"):
        ParallelSafetyEnv(ENV_ID, 1, 1, near=near)


def test_horizon_is_at_most_the_ids_own() -> None:
    with pytest.raises(UserError, match=r"rollout\.horizon is 1001.*1 to 1000"):
        ParallelSafetyEnv(ENV_ID, 1, 1, horizon=1001)


def test_skybox_changes_nothing_but_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import xmltodict
    import yaml

    package = import_safety_gymnasium()
    actions = forward()[0, 0].clamp(-1, 1).numpy()

    def stream() -> tuple[NDArray[np.float64], int]:
        env = package.make(ENV_ID)
        rows = []
        for seed in SEEDS:
            observation, _ = env.reset(seed=seed)
            rows.append(np.append(observation, [0.0, 0.0]))
            for action in actions:
                observation, reward, cost, *_ = env.step(action)
                rows.append(np.append(observation, [reward, cost]))
        return np.array(rows), env.unwrapped.task.model.ntex

    stripped, textures = stream()
    monkeypatch.setattr(package.world, "xmltodict", xmltodict)
    monkeypatch.setattr(package.world, "yaml", yaml)
    original, original_textures = stream()
    assert (textures, original_textures) == (1, 2)  # the floor, and the sky
    np.testing.assert_array_equal(stripped, original)
    assert stripped[:, -1].any()


def test_missing_package_is_the_users_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safety_gymnasium", None)
    with pytest.raises(UserError, match=r"pip install --no-deps safety-gymnasium==1.0.0"):
        import_safety_gymnasium()
