"""Traces and videos: what is drawn is what was measured."""

from dataclasses import replace
from functools import partial

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from tests.helpers import make_actor

from cmaml_pl.envs.engine import EngineEnv
from cmaml_pl.evaluation.traces import record_traces
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.tasks.base import split_tasks
from cmaml_pl.tasks.layout import LayoutFamily
from cmaml_pl.tasks.nav2d import Nav2DFamily
from cmaml_pl.tasks.target_direction import TargetDirectionFamily
from cmaml_pl.tasks.target_velocity import TargetVelocityFamily


def collect(family, horizon):
    env = family.make_env(3, 2, horizon=horizon, workers=1)
    actor = make_actor(env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1])
    rollouts = Rollouts(env, actor, seed=0)
    tasks = split_tasks(family, "test", cost_limit=1.0)[:2]  # a short batch
    rollouts.set_tasks(tasks)
    collect_again = partial(rollouts.collect, actor.vector().expand(3, -1), "test", 0)
    return rollouts, tasks, collect_again()[:2], collect_again


def test_a_trace_of_nav2d_is_the_observed_path():
    rollouts, tasks, rollout, collect_again = collect(Nav2DFamily(), horizon=9)
    traces = record_traces(rollouts, tasks, rollout, step=0, stream=("test",))
    assert [trace.task for trace in traces] == [task.id for task in tasks]
    for p, trace in enumerate(traces):
        path = trace.positions["agent"][:, :, 0].transpose(0, 1)  # (worlds, time + 1, 2)
        assert torch.equal(path[:, :-1], rollout["observation"][p, ..., :2])
        assert torch.equal(path[:, 1:], rollout["next", "observation"][p, ..., :2])
        goal = torch.tensor([tasks[p].parameters["goal_x"], tasks[p].parameters["goal_y"]])
        torch.testing.assert_close(trace.positions["goal"], goal.expand(10, 2, 1, 2))
        assert trace.positions["hazards"].shape == (10, 2, 2, 2)
        assert trace.lengths == [9, 9]
        assert trace.geometry is None
    assert torch.equal(collect_again()[:2]["observation"], rollout["observation"])  # a replay leaves nothing behind


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", "SafetyPointCircle1-v0"])
def test_a_trace_of_the_navigation_engine_is_what_was_rolled_out(env_id):
    rollouts, tasks, rollout, _ = collect(LayoutFamily(env_id=env_id), horizon=30)
    seen = rollouts.replay(rollout["action"], lambda: rollouts.env.worlds.observe().copy(), "test", 0)
    observations = torch.tensor(np.stack(seen), dtype=torch.float32).unflatten(1, (3, 2))[:, :2]
    assert torch.equal(observations[1:].movedim(0, 2), rollout["next", "observation"])
    traces = record_traces(rollouts, tasks, rollout, step=0, stream=("test",))
    assert traces[0].geometry.shape[0] == 31
    assert traces[1].geometry is None
    model = rollouts.env.worlds.definition.model
    body = traces[0].geometry[:, model.body("agent").geomadr[0], :2]
    torch.testing.assert_close(body, traces[0].positions["agent"][:, 0, 0], atol=0.15, rtol=0)
    assert set(traces[0].radii) == set(traces[0].positions) - {"agent"}


def test_a_trace_ends_with_the_first_episode():
    rollouts, tasks, rollout, _ = collect(Nav2DFamily(), horizon=9)
    rollout["next", "done"][0, 1, 3] = True
    first, second = record_traces(rollouts, tasks, rollout, step=0, stream=("test",))
    assert (first.lengths, second.lengths) == ([9, 4], [9, 9])


FAMILIES = (
    *(LayoutFamily(env_id=env_id) for env_id in ("SafetyPointGoal2-v0", "SafetyPointCircle1-v0")),
    *(TargetVelocityFamily(), TargetDirectionFamily()),
)


@pytest.fixture(params=FAMILIES, ids=lambda family: f"{family.family}, {family.env_id}")
def scene(request):
    """An environment, and two traces of it, the second of which ends after 5 of 12 steps."""
    rollouts, tasks, rollout, _ = collect(request.param, horizon=12)
    assert isinstance(rollouts.env, EngineEnv)
    before = record_traces(rollouts, tasks, rollout, step=0, stream=("test",))[0]
    return rollouts.env, [before, replace(before, step=3, lengths=[5, *before.lengths[1:]])]


def test_a_video_shows_what_moves(scene, tmp_path):
    from cmaml_pl.envs.drawing import SIZE, NoRendererError
    from cmaml_pl.evaluation.video import write_video

    try:
        write_video(*scene, tmp_path / "a.gif")
    except NoRendererError as reason:
        pytest.skip(str(reason))
    frames = imageio.mimread(tmp_path / "a.gif")
    assert len(frames) == 13
    height, width = frames[0].shape[:2]
    assert (height > SIZE, width) == (True, 2 * SIZE)
    below = [frame[height - SIZE :].astype(int) for frame in frames]
    before, after = ([frame[:, side] for frame in below] for side in (slice(SIZE), slice(SIZE, None)))
    words = [frames[0][: height - SIZE, side].astype(int) for side in (slice(SIZE), slice(SIZE, None))]
    assert (words[0] != words[1]).any()  # "before adaptation", "after 3 steps"
    assert before[0].std() > 10  # something is seen
    assert (before[0] != before[-1]).any()  # and it moves
    # the second has stopped, up to the noise of the colours that a GIF has
    assert abs(after[5] - after[-1]).mean() < 0.2 * abs(before[5] - before[-1]).mean()


def test_without_a_renderer_it_says_why(scene, tmp_path, monkeypatch):
    from cmaml_pl.envs import drawing
    from cmaml_pl.evaluation.video import write_video

    def fail():
        raise ImportError("libEGL is missing\nand more")

    monkeypatch.setattr(drawing, "_canvas_class", fail)  # which fails as a machine without the libraries does
    with pytest.raises(drawing.NoRendererError, match=r"^no OpenGL to draw with \(libEGL is missing\)$"):
        write_video(*scene, tmp_path / "a.gif")
    assert not (tmp_path / "a.gif").exists()
