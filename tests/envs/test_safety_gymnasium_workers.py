"""The worker processes behind ParallelSafetyEnv: how they start, end, fail, and what each does."""

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands import python_path
from torchrl.envs.utils import check_env_specs

from cmaml_pl.envs.safety_gymnasium import ParallelSafetyEnv
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.envs.safety_gymnasium_worker import SafetyWorld
from cmaml_pl.envs.worker import WorldShare
from cmaml_pl.envs.worker_env import usable_workers
from cmaml_pl.errors import UserError
from cmaml_pl.task import Task

ENV_ID = "SafetyPointGoal1-v0"
HORIZON = 60
SEEDS = (0, 4)


def small_env() -> tuple[ParallelSafetyEnv, list[BaseProcess]]:
    """An environment, and its two workers."""
    before = multiprocessing.active_children()
    env = ParallelSafetyEnv(ENV_ID, 2, 1, horizon=HORIZON, num_workers=2)
    env.set_tasks([Task("layout", seed, layout_seed=seed, cost_limit=25.0) for seed in SEEDS])
    workers = [process for process in multiprocessing.active_children() if process not in before]
    assert len(workers) == 2
    return env, workers


def is_running(process: BaseProcess) -> bool:
    """Whether it has not ended; a pool releases those that have."""
    try:
        return process.is_alive()
    except ValueError:
        return False


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_close_ends_the_workers() -> None:
    env, processes = small_env()
    assert all(map(is_running, processes))
    env.close()
    assert not any(map(is_running, processes))
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.reset()
    assert torch.get_num_threads() == 1


def test_workers_end_with_the_last_reference() -> None:
    env, processes = small_env()
    env.reset()
    del env
    gc.collect()
    assert not any(map(is_running, processes))


def test_killed_worker_is_an_error() -> None:
    env, processes = small_env()
    following = env.reset()
    processes[1].kill()
    processes[1].join()
    with pytest.raises(UserError, match=r"worker process.*exit code \[-9\]"):
        env.step(following.set("action", torch.zeros(2, 1, 2)))
    assert env.is_closed
    assert not any(map(is_running, processes))


@pytest.mark.parametrize(("worlds", "most", "workers"), [(32, 2, 2), (32, 5, 4), (7, 4, 1), (3, 64, 3), (1, None, 1)])
def test_number_of_workers_divides_the_worlds(worlds: int, most: int | None, workers: int) -> None:
    assert usable_workers(worlds, most) == workers


def test_number_of_workers_follows_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3, 5, 7}, raising=False)
    assert usable_workers(32) == 4
    with pytest.raises(UserError, match=r"rollout\.workers is 0"):
        usable_workers(32, 0)


@pytest.fixture
def share() -> Iterator[WorldShare]:
    """The second of two workers' shares, in this process."""
    import_safety_gymnasium()
    share = WorldShare(partial(SafetyWorld, ENV_ID, HORIZON), ENV_ID, num_envs=1, share=2, index=1)
    share.set_world_tasks([Task("layout", seed, layout_seed=seed, cost_limit=25.0) for seed in (9, 9, *SEEDS)])
    yield share
    share.close()


def inside(share: WorldShare, i: int) -> Any:
    """What TorchRL has made of a world of Safety-Gymnasium."""
    world = share._worlds[i]
    assert isinstance(world, SafetyWorld)
    return world.world


def test_share_is_an_environment_of_its_own(share: WorldShare) -> None:
    with torch.random.fork_rng():  # the check itself draws actions
        check_env_specs(share)
    np.testing.assert_array_equal(share.reset()["observation"], share.reset_worlds(np.ones(4, np.bool_))["observation"])


def test_a_share_gives_its_worlds_their_own_actions_clipped(share: WorldShare) -> None:
    seen = []
    for others, own in ((9.0, [-3.0, 0.5]), (0.0, [-1.0, 0.5]), (9.0, [0.2, 0.5])):
        share.reset_worlds(np.ones(4, np.bool_))
        state = share.step_worlds(np.array([[others] * 2, [others] * 2, [0.3, 0.3], own], np.float32))
        seen.append(state["observation"].copy())
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0][1] != seen[2][1]).any()


@pytest.mark.parametrize("failure", ["handled by safety_gymnasium", "raised by mujoco"])
def test_failed_physics_end_the_episode(share: WorldShare, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco

    def fail(_: object) -> bool:
        if failure == "raised by mujoco":
            raise mujoco.FatalError("on purpose")
        return True

    start = share.reset_worlds(np.ones(4, np.bool_))["observation"].copy()
    # within one of its worlds: no action makes MuJoCo fail on purpose
    builder = inside(share, 1)._env.unwrapped
    with monkeypatch.context() as patch:
        patch.setattr(builder.task, "simulation_forward", fail)
        state = share.step_worlds(np.zeros((4, 2), np.float32))
    assert state["truncated"].tolist() == [[False], [True]]
    assert not state["terminated"].any()
    assert state["cost"].tolist() == [[0.0], [1.0]]
    assert state["reward"][1] == builder.task.reward_conf.reward_exception == -10
    assert np.isfinite(state["observation"]).all()
    state = share.reset_worlds(np.array([False, False, False, True]))
    np.testing.assert_array_equal(state["observation"][1], start[1])
    assert not share.step_worlds(np.zeros((4, 2), np.float32))["truncated"].any()


def test_other_errors_reach_the_parent(share: WorldShare, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise AssertionError("World has starting cost!")

    error = share.perform("step_worlds", np.zeros((4, 2), np.float32))  # before any reset
    assert isinstance(error, RuntimeError)
    assert "Traceback" in str(error)
    monkeypatch.setattr(inside(share, 0), "reset", fail)  # no known layout begins at a cost
    error = share.perform("reset_worlds", np.ones(4, np.bool_))
    assert isinstance(error, UserError)
    assert f"layout seed {SEEDS[0]} (World has starting cost!)" in str(error)


PROGRAM = """
    import multiprocessing
    from pathlib import Path

    from cmaml_pl.envs.safety_gymnasium import ParallelSafetyEnv
    from cmaml_pl.task import Task

    if __name__ == "__main__":
        env = ParallelSafetyEnv("SafetyPointGoal1-v0", 1, 2, horizon=10, num_workers=2)
        env.set_tasks([Task("layout", 0, layout_seed=0, cost_limit=25.0)])
        env.rollout(20, break_when_any_done=False)
        workers = multiprocessing.active_children()
        Path("workers").write_text(" ".join(str(process.pid) for process in workers))
        raise ValueError("on purpose")
"""


def test_silent_program_leaves_no_process(tmp_path: Path) -> None:
    """Importing, making and stepping say nothing, warnings being errors; an exception ends the workers too."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, "-W", "error", program.name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == ""
    trace = done.stderr.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "ValueError: on purpose"
    assert all(line.startswith("  ") for line in trace[1:-1]), done.stderr
    processes = [int(pid) for pid in (tmp_path / "workers").read_text().split()]
    assert len(processes) == 2
    assert not any(map(has_process, processes))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["program.py", "workers"]


def has_process(pid: int) -> bool:
    """Whether a process exists and is not a zombie that only waits to be collected."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
