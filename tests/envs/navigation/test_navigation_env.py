"""The batched environment: specs, episodes, failures, and independence of threads and neighbours."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModule
from tests.commands import python_path
from torchrl.collectors import Collector
from torchrl.envs.utils import check_env_specs

from cmaml_pl.envs.navigation import NavigationEnv, UnsupportedTaskError
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

# safety_gymnasium reads the number of a joint from an array of one element
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")

ENV_ID = "SafetyPointGoal1-v0"


def make_env(env_id: str = ENV_ID, tasks: int = 2, envs: int = 2, **options) -> NavigationEnv:
    return NavigationEnv(env_id, tasks, envs, **{"num_threads": 1, **options})


def random_actions(env: NavigationEnv, steps: int, seed: int = 0) -> torch.Tensor:
    """(tasks, envs, time, A), some of them beyond the action space."""
    shape = (*env.batch_size, steps, env.action_spec.shape[-1])
    high = env.action_spec.space.high[0, 0]
    actions: torch.Tensor = 1.5 * high * (2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1)
    return actions


def step_through(env: NavigationEnv, actions: torch.Tensor) -> TensorDictBase:
    """All steps [tasks, envs, time] from a reset."""
    following = env.reset()
    steps = []
    for t in range(actions.shape[2]):
        step, following = env.step_and_maybe_reset(following.set("action", actions[:, :, t]))
        steps.append(step)
    return torch.stack(steps, dim=2)


def assert_same(ours: TensorDictBase, theirs: TensorDictBase) -> None:
    """To the bit."""
    for key in ("observation", "reward", "cost", "terminated", "truncated"):
        assert (ours["next", key] == theirs["next", key]).all(), key


@pytest.mark.parametrize("env_id", [ENV_ID, "SafetyAntButton2-v0"])
def test_specs_hold(env_id: str) -> None:
    env = make_env(env_id)
    with torch.random.fork_rng():  # the check itself draws actions
        check_env_specs(env)
    assert env.batch_size == (2, 2)
    assert env.action_spec.shape == (2, 2, 2 if env_id == ENV_ID else 8)
    assert (env.action_spec.space.low == -1).all()
    assert (env.action_spec.space.high == 1).all()


def test_specs_are_those_of_safety_gymnasium() -> None:
    env = make_env("SafetyRacecarPush1-v0", dtype=torch.float64)
    space = env.worlds.definition.task.action_space
    np.testing.assert_array_equal(env.action_spec.space.high[1, 1], space.high)
    assert space.high[0] == 20
    assert env.observation_spec["observation"].shape[-1] == env.worlds.definition.task.observation_space.shape[0]


def test_collector_gives_whole_episodes() -> None:
    env = make_env(horizon=30)
    env.set_tasks([Task("layout", seed, layout_seed=seed, cost_limit=25.0) for seed in (3, 4)])
    policy = TensorDictModule(lambda o: torch.zeros(*o.shape[:-1], 2), in_keys=["observation"], out_keys=["action"])
    collector = Collector(
        env,
        policy,
        frames_per_batch=4 * 30,
        total_frames=-1,
        reset_at_each_iter=True,
        auto_register_policy_transforms=False,
    )
    batches = iter(collector)
    first, second = next(batches), next(batches)
    assert first.shape == (2, 2, 30)
    for key in ("observation", ("next", "observation"), ("next", "reward"), ("next", "cost")):
        assert first[key].dtype == torch.float32
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=0)
    assert first["next", "reward"].shape == first["next", "cost"].shape == (2, 2, 30, 1)
    last = torch.arange(30).view(1, 1, 30, 1) == 29
    assert (first["next", "truncated"] == last).all()
    assert (first["next", "done"] == last).all()
    assert not first["next", "terminated"].any()
    collector.shutdown()
    assert env.is_closed


@pytest.mark.parametrize(("env_id", "limit"), [(ENV_ID, 1000), ("SafetyCarCircle1-v0", 500)])
def test_horizon(env_id: str, limit: int) -> None:
    assert make_env(env_id, 1, 1).horizon == limit
    env = make_env(env_id, horizon=7)
    steps = step_through(env, random_actions(env, 20))
    assert (steps["next", "truncated"][..., 0] == (torch.arange(20) % 7 == 6)).all()
    assert not steps["cost"][:, :, ::7].any(), "a reset costs nothing"


def test_dtype() -> None:
    single, double = make_env(), make_env(dtype=torch.float64)
    actions = random_actions(single, 5)
    ours, theirs = step_through(single, actions), step_through(double, actions)
    for key in ("observation", "reward", "cost"):
        assert ours["next", key].dtype == torch.float32
        assert theirs["next", key].dtype == torch.float64
        assert (theirs["next", key].float() == ours["next", key]).all()
    assert (theirs["next", "observation"].float() != theirs["next", "observation"]).any()


def test_actions_are_clipped() -> None:
    env = make_env(envs=1)
    wild = random_actions(env, 10)
    assert (wild.abs() > 1).any()
    steps = step_through(make_env(envs=1), wild)
    assert_same(steps, step_through(env, wild.clamp(-1, 1)))
    assert (steps["action"] == wild).all()  # the batch keeps what the policy drew


def test_reset_of_some_worlds_leaves_the_others_alone() -> None:
    env, undisturbed = make_env("SafetyCarPush1-v0"), make_env("SafetyCarPush1-v0")
    actions = random_actions(env, 12)
    following = other = None
    following, other = env.reset(), undisturbed.reset()
    for t in range(6):
        following = env.step_mdp(env.step(following.set("action", actions[:, :, t])))
        other = undisturbed.step_mdp(undisturbed.step(other.set("action", actions[:, :, t])))
    before = env.positions()
    chosen = torch.tensor([[True, False], [False, True]])
    result = env.reset(following.set("_reset", chosen[..., None]))
    for name, xy in env.positions().items():
        moved = (xy != before[name]).any(axis=(2, 3))
        np.testing.assert_array_equal(moved, chosen.numpy(), err_msg=name)
    assert (result["observation"][~chosen] == other["observation"][~chosen]).all()
    assert (result["observation"][chosen] != other["observation"][chosen]).any()
    for t in range(6, 12):
        result = env.step_mdp(env.step(result.set("action", actions[:, :, t])))
        other = undisturbed.step_mdp(undisturbed.step(other.set("action", actions[:, :, t])))
        assert (result["observation"][~chosen] == other["observation"][~chosen]).all()


def test_reset_of_no_world_resets_none() -> None:
    env = make_env()
    following = step_through(env, random_actions(env, 3))[:, :, -1]["next"]
    result = env.reset(following.set("_reset", torch.zeros(2, 2, 1, dtype=torch.bool)))
    assert (result["observation"] == following["observation"]).all()


@pytest.mark.parametrize(
    ("env_id", "mode"),
    [("SafetyPointGoal2-v0", "fast"), ("SafetyDoggoGoal1-v0", "exact"), ("SafetyPointButton1-v0", "fast")],
)
def test_threads_change_no_number(env_id: str, mode: str) -> None:
    one, three = (make_env(env_id, 1, 4, mode=mode, num_threads=n, horizon=15, seed=4) for n in (1, 3))
    actions = random_actions(one, 25)
    assert_same(step_through(one, actions), step_through(three, actions))


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", "SafetyCarButton1-v0"])
def test_worlds_do_not_depend_on_their_neighbours(env_id: str) -> None:
    """World i's stream is seeded with seed + i."""
    many, one = make_env(env_id, 1, 4, horizon=15, seed=4), make_env(env_id, 1, 1, horizon=15, seed=6)
    actions = random_actions(many, 25)
    assert_same(step_through(many, actions)[:, 2:3], step_through(one, actions[:, 2:3]))


@pytest.mark.parametrize(
    ("env_id", "mode"),
    [
        ("SafetyPointGoal2-v0", "fast"),
        ("SafetyPointGoal2-v0", "exact"),
        ("SafetyPointButton1-v0", "exact"),
        ("SafetyAntRun0-v0", "exact"),
    ],
)
@pytest.mark.parametrize("speed", [1e12, float("nan")])
def test_diverged_world_ends_its_episode(
    env_id: str, mode: str, speed: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log there
    env, undisturbed = make_env(env_id, mode=mode), make_env(env_id, mode=mode)
    still = torch.zeros(env.action_spec.shape)
    following, other = env.reset(), undisturbed.reset()
    before = following["observation"].clone()
    env.worlds.physics._batch.qvel[2, 0] = speed  # no action makes a world diverge
    step, following = env.step_and_maybe_reset(following.set("action", still))
    reference, other = undisturbed.step_and_maybe_reset(other.set("action", still))
    failed = torch.tensor([[False, False], [True, False]])
    assert (step["next", "truncated"][..., 0] == failed).all()
    assert (step["next", "done"][..., 0] == failed).all()
    assert not step["next", "terminated"].any()
    assert (step["next", "cost"][..., 0] == failed).all()
    assert step["next", "reward"][1, 0].item() == env.worlds.definition.task.reward_conf.reward_exception == -10
    assert (step["next", "observation"][failed] == before[failed]).all()  # not that of a world that MuJoCo has reset
    assert (step["next", "observation"][~failed] == reference["next", "observation"][~failed]).all()
    assert env.failures == 1
    for _ in range(5):  # the failed world goes on after its automatic reset, the others as if nothing had happened
        step, following = env.step_and_maybe_reset(following.set("action", still))
        reference, other = undisturbed.step_and_maybe_reset(other.set("action", still))
        assert not step["next", "done"].any()
        assert step["next", "observation"].isfinite().all()
        assert (step["next", "observation"][~failed] == reference["next", "observation"][~failed]).all()
        assert (step["next", "reward"][~failed] == reference["next", "reward"][~failed]).all()
    assert env.failures == 1
    assert undisturbed.failures == 0
    env.worlds.physics._batch.qvel[2, 0] = speed
    assert env.step(following.set("action", still))["next", "truncated"][1, 0]
    assert env.failures == 2  # nothing of the first has stayed


@pytest.mark.parametrize(
    ("env_id", "nearest"), [("SafetyPointGoal-v0", "SafetyPointGoal1-v0"), ("SafetyPointGoal1Vision-v0", "PointGoal1")]
)
def test_unknown_id_names_the_nearest(env_id: str, nearest: str) -> None:
    with pytest.raises(UserError, match=rf"tasks\.env_id.*{env_id}.*{nearest}"):
        make_env(env_id)


@pytest.mark.parametrize(
    "env_id", ["SafetyPointRace0-v0", "SafetyCarRace2-v0", "SafetyHopperVelocity-v1", "SafetyAntVelocity-v1"]
)
def test_tasks_of_other_kinds_are_refused(env_id: str) -> None:
    with pytest.raises(UnsupportedTaskError, match=rf"engine does not run {env_id}: it .+"):
        make_env(env_id)


@pytest.mark.parametrize("name", ["num_tasks", "num_envs", "num_threads"])
@pytest.mark.parametrize("count", [0, -3])
def test_counts_are_positive(name: str, count: int) -> None:
    counts: dict[str, Any] = {name: count}
    with pytest.raises(UserError, match=rf"{name} is {count}; at least 1"):
        NavigationEnv(ENV_ID, **counts)


def test_mode_is_one_of_two() -> None:
    with pytest.raises(UserError, match=r"mode is 'exakt'; choose from fast, exact\. Did you mean exact\?"):
        make_env(mode="exakt")


@pytest.mark.parametrize("horizon", [0, 501])
def test_horizon_is_at_most_the_ids_own(horizon: int) -> None:
    with pytest.raises(UserError, match=rf"rollout\.horizon is {horizon}.*1 to 500"):
        make_env("SafetyPointCircle1-v0", horizon=horizon)


def test_worlds_use_all_cores_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    env = make_env(num_threads=None)
    assert env.num_threads == env.worlds.physics._batch.nthread == 3


PROGRAM = """
    import numpy as np

    from cmaml_pl.envs.navigation import NavigationEnv

    def resident():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    one = NavigationEnv("SafetyPointGoal2-v0", 1, 1, num_threads=2)  # what the first environment of a process imports
    one.reset()
    before = resident()
    env = NavigationEnv("SafetyPointGoal2-v0", 2, 64, num_threads=2)
    env.reset()
    for _ in range(5):
        env.worlds.step(np.ones((128, 2)))
    print((resident() - before) / 128)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_world_takes_less_than_two_mebibytes(tmp_path: Path) -> None:
    """And making and stepping worlds says nothing, warnings being errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert 0.05 < float(done.stdout) < 2.0
    assert not list(tmp_path.iterdir())
