"""Runs that explore by the context."""

import pytest
from tests.commands import refused
from tests.integration.runs import DISABLED, TINY, assert_same_run, lines

from cmaml_pl.cli import main
from cmaml_pl.runs.folder import RunFolder

EXPLORES = ["policy.context=2", "exploration.std=1", "exploration.informed=0.5"]


def train(place, *overrides: str) -> RunFolder:
    keys = ["exp=nav2d", "run.id=a", "run.resume=auto", "quiet=true", f"run.dir={place}"]
    main(["train", *keys, *TINY, *DISABLED, *EXPLORES, "train.validate_every=1", *overrides])
    return RunFolder(place / "nav2d/a")


def test_it_goes_on_exactly_and_is_measured_beside_its_random_start(tmp_path):
    train(tmp_path / "a", "train.meta_iterations=1")
    ours, whole = (train(tmp_path / name, "train.meta_iterations=2") for name in ("a", "b"))
    assert_same_run(ours, whole)
    main(["evaluate", f"run={ours.path}", "steps=2", "quiet=true"])
    measured = lines(ours.path / "evaluation.csv")
    assert {(line["method"], line["step"]) for line in measured} == {
        (method, step) for method in ("fomaml+trpo_lag", "random") for step in "012"
    }
    assert (ours.path / "trajectories.png").stat().st_size > 0
    assert float(lines(ours.metrics)[-1]["informed/cost"]) >= 0
    main(["export", f"ckpt={ours.path}"])


@pytest.mark.parametrize(
    ("message", "overrides"),
    [
        ("exploration.informed is 0.5, but exploration.std is 0", "exp=nav2d exploration.informed=0.5"),
        ("policy.context, the length of the context, is 0: set a length", "exp=point_goal exploration.std=1"),
        ("but policy.actor is my:Net, which has no context", "exp=point_goal exploration.std=1 policy.actor=my:Net"),
        (
            "is 1: set at least 2, to tell goal_x, goal_y",
            "exp=nav2d exploration.std=1 exploration.informed=0.5 policy.context=1",
        ),
        (
            "a task of the family layout has no hidden parameters to tell",
            "exp=point_goal exploration.std=1 exploration.informed=0.5 policy.context=2",
        ),
        ("but outer.method=maml does not follow the step", "exp=nav2d exploration.std=1 outer.method=maml"),
        ("but deployment.method=mixture does not", "exp=nav2d exploration.std=1 deployment.method=mixture"),
        ("rollout.envs_per_task is 1", "exp=nav2d exploration.std=1 rollout.envs_per_task=1"),
        ("informs 20 of the 20 tasks", "exp=nav2d exploration.std=1 exploration.informed=1"),
        ("informs 0 of the 20 tasks", "exp=nav2d exploration.std=1 exploration.informed=0.01"),
        ("but outer.radius_lr=0.1 does not follow", "exp=nav2d exploration.std=1 outer.radius_lr=0.1"),
        ("exploration.informed is 2.0", "exp=nav2d exploration.informed=2"),
    ],
)
def test_what_cannot_explore_is_refused_by_name(message, overrides, tmp_path):
    assert message in refused("train", *overrides.split(), cwd=tmp_path)
