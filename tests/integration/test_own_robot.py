"""An environment of a user's own, outside the package: the example in examples/own_robot."""

import re
import shutil
from pathlib import Path

import pytest
from tests.commands import cmaml, run, started
from tests.docs.reading import blocks, read
from tests.integration.runs import DISABLED, lines

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/own_robot"
MANUAL = "docs/own_environment.md"
TINY = ["train.tasks_per_batch=2", "rollout.envs_per_task=2", "rollout.horizon=10", "tasks.test=2", "rollout.workers=1"]


@pytest.fixture
def here(tmp_path):
    """A folder that has only the example's two files."""
    for name in ("drone.py", "drone.yaml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    return tmp_path


def test_it_trains_resumes_adapts_and_is_exported(here):
    start = ["exp=drone.yaml", "run.id=a", *TINY, *DISABLED]
    cmaml("train", *start, "train.meta_iterations=1", cwd=here, anew=True)
    go_on = cmaml("train", *start, "run.resume=auto", "train.meta_iterations=2", cwd=here)
    assert "2/2" in go_on
    assert [row["iteration"] for row in lines(here / "runs/drone/a/metrics.csv")] == ["1", "2"]
    printed = cmaml("evaluate", "run=runs/drone/a", "steps=1", cwd=here)
    assert "no pictures of paths" in printed
    assert len(lines(here / "runs/drone/a/evaluation.csv")) == 2 * 2 * 2  # arms, tasks, steps
    (robot,) = (block.code for block in blocks(read(MANUAL)) if "TaskPolicy(module" in block.code)
    (here / "robot.py").write_text(robot.replace("runs/drone/first", "runs/drone/a"))
    step = r"^return -?\d+\.\d+ cost \d+\.\d+ kl 0\.\d+ lambda \d+\.\d+$"
    assert len(re.findall(step, run("robot", cwd=here), re.MULTILINE)) == 4
    assert "largest difference" in cmaml("export", "ckpt=runs/drone/a", cwd=here)


def test_the_docs_check_finds_no_fault_in_it_and_finds_one_that_is_put_there(here):
    (check,) = (block.code for block in blocks(read(MANUAL)) if "check_task_env(env, [config" in block.code)
    (here / "check.py").write_text(check)
    assert run("check", cwd=here) == ""
    drone = here / "drone.py"
    drone.write_text(drone.read_text().replace("before = self.position[0]", "before = np.nan"))
    with started("check", cwd=here) as begun:
        assert begun.process.wait(300) == 1
        assert "cannot be trained on yet: 'reward' of a step has numbers that are not finite" in begun.printed


def test_the_docs_say_how_little_it_takes():
    written = sum(len((EXAMPLE / name).read_text().splitlines()) for name in ("drone.py", "drone.yaml"))
    assert written < 80
