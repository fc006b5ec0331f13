"""Layouts and goals are those that safety_gymnasium's RandomGenerator draws, and so is what it draws next."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cmaml_pl.envs.navigation import placement
from cmaml_pl.envs.navigation.placement import Placer
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium

# safety_gymnasium reads the number of a joint from an array of one element
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")

IDS = {
    "SafetyPointGoal0-v0": 100,
    "SafetyPointGoal2-v0": 100,
    "SafetyCarPush2-v0": 100,
    "SafetyAntButton1-v0": 8,  # a layout takes it thousands of tries
    "SafetyDoggoCircle2-v0": 100,
    "SafetyRacecarRun0-v0": 100,
}
"""Ids, and the number of seeds that are tried."""


def make_task(env_id: str):
    """Safety-Gymnasium's task with its placements built."""
    builder = import_safety_gymnasium().make(env_id, disable_env_checker=True).unwrapped
    builder.reset(seed=0)
    return builder.task


def assert_same_state(ours: np.random.RandomState, theirs: np.random.RandomState) -> None:
    for mine, other in zip(ours.get_state(), theirs.get_state(), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(("env_id", "seeds"), IDS.items())
def test_layouts_and_goals_are_the_originals(env_id: str, seeds: int) -> None:
    task = make_task(env_id)
    generator, placer = task.random_generator, Placer(task.placements_conf)
    names = list(task.placements_conf.placements)
    for seed in range(seeds):
        generator.set_random_seed(seed)
        theirs = generator.build_layout()
        rng = np.random.RandomState(seed)
        ours: Any = placer.layout(rng)
        np.testing.assert_array_equal(ours, [theirs[name] for name in names])
        assert_same_state(rng, generator.random_generator)
        if "goal" not in names:
            continue
        for _ in range(3):
            del theirs["goal"]
            while not generator.sample_goal_position():
                pass
            ours[names.index("goal")] = placer.goal(rng, ours)
            np.testing.assert_array_equal(ours[names.index("goal")], theirs["goal"])
        assert_same_state(rng, generator.random_generator)


def make_placer(*, extents, keepout: float, things: int = 2, placements=None) -> Placer:
    names = ["agent", "goal", *(f"hazard{i}" for i in range(things - 2))]
    return Placer(SimpleNamespace(extents=extents, margin=0.0, placements=dict.fromkeys(names, (placements, keepout))))


def test_what_does_not_fit_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_LAYOUT_TRIES", 3)
    monkeypatch.setattr(placement, "_GOAL_TRIES", 3)
    narrow = make_placer(extents=(-1, -1, 1, 1), keepout=0.8)
    rng = np.random.RandomState(0)
    assert narrow.layout(rng) is None
    assert narrow.goal(rng, [(0.0, 0.0), (0.0, 0.0)]) is None
    # an agent, and 3 * 100 tries for the goal: of two numbers each
    replayed = np.random.RandomState(0)
    replayed.random_sample(2 * 3 * 101 + 2 * 3)
    assert_same_state(rng, replayed)


def test_rectangles_are_drawn_by_their_area() -> None:
    """As RandomGenerator.draw_placement does it; no id has more than one."""
    rectangles = [(0.0, 0.0, 1.0, 1.0), (5.0, 5.0, 8.0, 6.0), (9.0, 9.0, 9.1, 9.1)]  # the last is too small
    placer = make_placer(extents=None, keepout=0.1, placements=rectangles)
    generator = import_safety_gymnasium().utils.random_generator.RandomGenerator()
    generator.set_random_seed(4)
    rng = np.random.RandomState(4)
    place, numbers = placer._places[0], rng.random_sample(3 * 300)
    drawn = np.stack(place.points(numbers), axis=-1)
    np.testing.assert_array_equal(drawn, [place.point(row) for row in numbers.reshape(-1, 3).tolist()])
    np.testing.assert_array_equal(drawn, [generator.draw_placement(rectangles, 0.1) for _ in range(300)])
    assert_same_state(rng, generator.random_generator)
    # areas less the keepout: 0.8 * 0.8 and 2.8 * 0.8
    assert np.mean([x > 3 for x, _ in drawn]) == pytest.approx(2.8 / 3.6, abs=0.06)
