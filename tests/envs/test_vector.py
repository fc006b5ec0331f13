"""The engines for other libraries: Gymnasium's own vector environment of the same id does the same."""

import os
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import SyncVectorEnv
from tests.commands import ROOT, python_path
from tests.distribution import install

from cmaml_pl.envs import ENGINE_IDS, drawing, make_vec, register_envs
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError

pytestmark = [
    # safety_gymnasium reads the number of a joint from an array of one element
    pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning"),
]
POINT, HOPPER = "SafetyPointGoal1-v0", "SafetyHopperVelocity-v1"
WORLDS, SEED = 3, 0


def gymnasiums_own(env_id, horizon):
    """Gymnasium's vector environment of safety_gymnasium's worlds."""
    safety_gymnasium = import_safety_gymnasium()
    from safety_gymnasium.wrappers import SafetyGymnasium2Gymnasium

    make = partial(safety_gymnasium.make, env_id, max_episode_steps=horizon, disable_env_checker=True)
    return SyncVectorEnv([lambda: SafetyGymnasium2Gymnasium(make())] * WORLDS)


def assert_same(ours, theirs):
    """The engine's numbers; those of robots on legs are equal to the bit."""
    np.testing.assert_allclose(ours, theirs, atol=1e-9, rtol=0)
    assert ours.dtype == theirs.dtype


def assert_same_endings(ours, theirs, cost):
    """What `info` tells of episodes that have ended. Gymnasium's has the cost of an ended world only there."""
    ended = theirs.get("_final_observation", np.zeros(WORLDS, np.bool_))
    assert ("final_observation" in ours) == ended.any()
    assert ours["_cost"].all()
    np.testing.assert_array_equal(ours["cost"], cost)
    for world in range(WORLDS):
        if not ended[world]:
            assert ours["cost"][world] == theirs["cost"][world]
            continue
        assert_same(ours["final_observation"][world], theirs["final_observation"][world])
        assert ours["final_info"][world] == {"cost": theirs["final_info"][world]["cost"]}
        assert ours["cost"][world] == theirs["final_info"][world]["cost"]
    if ended.any():
        for name in ("final_observation", "final_info"):
            np.testing.assert_array_equal(ours[f"_{name}"], theirs[f"_{name}"])
            assert [value is None for value in ours[name]] == [value is None for value in theirs[name]]
            assert ours[name].dtype == theirs[name].dtype


@pytest.mark.parametrize(
    ("env_id", "horizon", "steps", "drift", "events"),
    [
        (POINT, 60, 130, [1.0, 0.0], {"limit", "cost"}),
        ("SafetyAntGoal0-v0", 20, 40, None, {"limit", "fall"}),
        (HOPPER, 1000, 200, None, {"fall", "cost"}),
    ],
)
def test_it_is_gymnasiums_own_vector_environment(env_id, horizon, steps, drift, events):
    """Spaces, seeds, observations, costs, automatic resets and what is final, through time limits and falls."""
    ours = make_vec(env_id, WORLDS, "exact", max_episode_steps=horizon, cost="return")
    theirs = gymnasiums_own(env_id, horizon)
    for name in ("single_observation_space", "observation_space", "single_action_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    drawn = np.random.default_rng(0)
    happened = set()
    for seed in (SEED, [7, None, 8], None):  # None goes on with the stream of the world
        (first, told), (own, own_told) = ours.reset(seed=seed), theirs.reset(seed=seed)
        assert_same(first, own)
        assert told == own_told == {}
    for _ in range(steps):
        beyond = 1.3 * ours.action_space.high
        actions = drawn.uniform(-beyond, beyond) if drift is None else np.tile(drift, (WORLDS, 1))
        actions = actions.astype(ours.action_space.dtype)
        observation, reward, cost, terminated, truncated, info = ours.step(actions)
        own = theirs.step(actions)
        for mine, other in zip((observation, reward, terminated, truncated), own, strict=False):
            assert_same(mine, other)
        assert_same_endings(info, own[4], cost)
        seen = {"fall": terminated, "limit": truncated, "cost": cost}
        happened |= {event for event, where in seen.items() if where.any()}
    assert happened == events


def run(steps=40, seed=3, **options):
    """The observations of a few steps in fast mode."""
    env = make_vec("SafetyPointGoal2-v0", 4, seed=seed, max_episode_steps=15, **options)
    first, drawn = env.reset()[0], np.random.default_rng(0)
    return np.array([first, *(env.step(drawn.uniform(-1, 1, (4, 2)))[0] for _ in range(steps))])


def test_the_same_seed_gives_the_same_numbers():
    first = run()
    np.testing.assert_array_equal(run(num_threads=2), first)
    assert not np.isclose(run(seed=4)[0], first[0]).all(axis=1).any()
    np.testing.assert_array_equal(run(seed=4, steps=0)[0, :-1], first[0, 1:])  # world i has the seed plus i
    assert not np.isclose(run(seed=None, steps=0), run(seed=None, steps=0)).all(axis=2).any()


def test_gymnasiums_statistics_of_episodes_count_it():
    env = gymnasium.wrappers.RecordEpisodeStatistics(make_vec(POINT, 2, max_episode_steps=5))
    env.reset(seed=0)
    rewards = []
    for _ in range(5):
        _, reward, _, _, info = env.step(np.ones((2, 2)))
        rewards.append(reward)
    np.testing.assert_array_equal(info["episode"]["l"], [5, 5])
    np.testing.assert_allclose(info["episode"]["r"], np.sum(rewards, axis=0), rtol=1e-6)


def test_a_world_whose_physics_fails_ends_with_its_last_observation_that_is_good(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log there
    env = make_vec(POINT, 2, seed=0)
    first, _ = env.reset()
    env._worlds.physics._batch.qvel[1] = np.nan
    observation, _, terminated, truncated, info = env.step(np.zeros((2, 2)))
    assert truncated.tolist() == [False, True]
    assert not terminated.any()
    assert info["cost"].tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(info["final_observation"][1], first[1])
    assert np.isfinite(observation).all()


def test_a_frame_shows_world_0_and_what_moves():
    env = make_vec("SafetyPointGoal2-v0", 2, seed=0, render_mode="rgb_array")
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 50}
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset()
    try:
        with ExitStack() as probe:
            probe.enter_context(drawing.open_painter(env._worlds))
    except drawing.NoRendererError as reason:
        pytest.skip(str(reason))
    frame = env.render()
    assert frame.shape == (drawing.SIZE, drawing.SIZE, 3)
    assert frame.dtype == np.uint8
    assert frame.std() > 10  # something is seen
    other = make_vec(HOPPER, 1, seed=0, render_mode="rgb_array")
    other.reset()
    assert (other.render() != frame).any()
    np.testing.assert_array_equal(env.render(), frame)  # each draws on a canvas of its own
    other.close()
    np.testing.assert_array_equal(env.render(), frame)
    for _ in range(10):
        env.step(np.ones((2, 2)))
    assert (env.render() != frame).any()
    env.close()


def test_a_program_may_end_without_closing_what_has_drawn(tmp_path):
    code = f"""if True:
        from cmaml_pl.envs import make_vec
        from cmaml_pl.errors import UserError
        env = make_vec({POINT!r}, 1, render_mode="rgb_array")
        env.reset()
        try:
            env.render()
        except UserError as error:
            print(error)
    """
    printed = python(code, tmp_path)
    if printed.startswith("this machine cannot draw"):
        pytest.skip(printed)
    assert printed == ""


def test_what_cannot_be_drawn_is_said(monkeypatch):
    env = make_vec(POINT, 1)
    with pytest.raises(UserError, match='render_mode is None: give make_vec render_mode="rgb_array"'):
        env.render()

    def fail():
        raise ImportError("libEGL is missing")

    monkeypatch.setattr(drawing, "_canvas_class", fail)
    env = make_vec(POINT, 1, render_mode="rgb_array")
    env.reset()
    with pytest.raises(UserError, match=r"this machine cannot draw: no OpenGL to draw with \(libEGL is missing\)"):
        env.render()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "SafetyPointGol1-v0"}, "id is 'SafetyPointGol1-v0', .* nearest ids are .*SafetyPointGoal1-v0"),
        ({"id": "SafetyPointRace1-v0"}, "does not run SafetyPointRace1-v0: it is none of the tasks Goal, Button"),
        ({"id": "SafetySwimmerVelocity-v1"}, "does not load the model of SafetySwimmerVelocity-v1"),
        ({"num_envs": 2.5}, r"num_envs is 2\.5; a whole number is needed"),
        ({"num_threads": True}, "num_threads is True; a whole number is needed"),
        ({"num_envs": 0}, "num_envs is 0; at least 1"),
        ({"num_threads": -1}, "num_threads is -1; at least 1"),
        ({"mode": "exakt"}, "mode is 'exakt'; choose from fast, exact"),
        ({"cost": "reward"}, "cost is 'reward'; choose from info, return"),
        ({"render_mode": "human"}, "render_mode is 'human'; choose from rgb_array"),
        ({"max_episode_steps": 1001}, "max_episode_steps is 1001; an episode of .* has 1 to 1000 steps"),
        ({"seed": -1}, "the seed of world 0 is -1; a number from 0 to 4294967295"),
        ({"seed": 2**32 - 1}, "the seed of world 1 is 4294967296; a number from 0"),
    ],
)
def test_what_it_cannot_make_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        make_vec(**{"id": POINT, "num_envs": 2, **arguments})


def test_what_it_cannot_do_is_refused():
    env = make_vec(POINT, 2)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros((2, 2)))
    with pytest.raises(UserError, match="seed has 3 numbers; one for each of the 2 worlds"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(UserError, match=r"the actions have the shape \(2,\); \(2, 2\) is needed"):
        env.step(np.zeros(2))
    for ask in (partial(env.call, "render"), partial(env.get_attr, "task"), partial(env.set_attr, "task", 1)):
        with pytest.raises(UserError, match="no environments of their own"):
            ask()
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()


def test_the_ids_are_all_but_race_and_swimmer():
    registered = {i for i in import_safety_gymnasium().utils.registration.safe_registry if "Vision" not in i}
    others = {i for i in registered if "Race" in i.removeprefix("SafetyRacecar") or "Swimmer" in i or "Debug" in i}
    assert set(ENGINE_IDS) == registered - others
    assert len(ENGINE_IDS) == len(set(ENGINE_IDS)) == 105


def test_gymnasium_makes_it_and_makes_it_again_from_its_spec():
    register_envs()
    register_envs()  # which would warn if it registered them twice
    options = {"mode": "exact", "seed": 5}
    made = gymnasium.make_vec(f"cmaml_pl/{HOPPER}", 2, vectorization_mode="custom", vector_kwargs=options)
    own = make_vec(HOPPER, 2, seed=5, max_episode_steps=40)
    np.testing.assert_array_equal(made.reset()[0], own.reset()[0])
    assert made.spec.id == own.spec.id == f"cmaml_pl/{HOPPER}"
    again = gymnasium.make_vec(own.spec, 2, vectorization_mode="custom")
    assert again.spec.max_episode_steps == 40


def python(code, tmp_path):
    """What another process prints; it has no errors, not even at its very end."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout.strip()


def test_neither_pytorch_nor_the_trainer_is_imported(tmp_path):
    """Not even by steps and resets."""
    heavy = ("torch", "torchrl", "tensordict", "lightning", "wandb", "matplotlib", "omegaconf")
    code = f"""if True:
        import sys
        from cmaml_pl.envs import make_vec
        for env_id in ("{POINT}", "{HOPPER}"):
            env = make_vec(env_id, 2, max_episode_steps=2)
            env.reset(seed=0)
            for _ in range(3):
                env.step(env.action_space.sample())
        print([name for name in {heavy} if name in sys.modules])
    """
    assert python(code, tmp_path) == "[]"


def test_gymnasium_finds_the_plug_in(tmp_path):
    """As pip would install it: Gymnasium reads the entry points of an installed package."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["gymnasium.envs"]
    install(tmp_path / "site", "plug_in", {"gymnasium.envs": points})
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(tmp_path / "site")!r})
        import gymnasium
        env = gymnasium.make_vec("cmaml_pl/{POINT}", num_envs=2, vectorization_mode="custom")
        print(env.reset(seed=0)[0].shape, sum(name.startswith("cmaml_pl/") for name in gymnasium.registry))
        try:
            gymnasium.make_vec(env.spec, num_envs=2, vectorization_mode="custom", render_mode="rgb_array")
        except Exception as error:
            print(error)
    """
    says = "gymnasium.make_vec does not pass on render_mode='rgb_array': give it vector_kwargs=dict("
    assert python(code, tmp_path).startswith(f"(2, 60) {len(ENGINE_IDS)}\n{says}render_mode='rgb_array').")


def test_the_ten_lines_of_the_docs_run(tmp_path):
    page = (ROOT / "docs/engine.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.strip().splitlines()) <= 12
    assert python(code, tmp_path).startswith("mean cost of a world in 100 steps: ")
