"""The engine beside safety_gymnasium itself, number by number; `make parity` does it for all ids and whole episodes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.engine_parity import compare_exact, compare_until_contact
from benchmarks.navigation_agreement import Agreement
from benchmarks.navigation_carrying import Carrier
from benchmarks.navigation_episodes import load_actor, run_episodes
from benchmarks.navigation_episodes import random_policy as make_random_policy
from benchmarks.navigation_twins import Drift, Twins, contacts, roots, supported_ids
from tests.helpers import make_actor

from cmaml_pl.envs.navigation import NavigationEnv
from cmaml_pl.envs.navigation.rules import Costs

# safety_gymnasium reads the angle of a joint from an array of one element
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0 to a scalar:DeprecationWarning")

SPREAD = [
    "SafetyPointGoal2-v0",
    "SafetyPointButton1-v0",
    "SafetyPointCircle0-v0",
    "SafetyCarGoal1-v0",
    "SafetyCarPush2-v0",
    "SafetyRacecarButton0-v0",
    "SafetyRacecarCircle1-v0",
    "SafetyDoggoPush0-v0",
    "SafetyDoggoRun0-v0",
    "SafetyAntGoal0-v0",
    "SafetyAntCircle2-v0",
    "SafetyAntPush1-v0",
]
"""Every agent, every task, every level."""
HORIZON, STEPS = 130, 160


def test_all_navigation_tasks_are_supported() -> None:
    ids = supported_ids()
    assert len(ids) == 65
    assert set(SPREAD) < set(ids)


@pytest.mark.parametrize("env_id", SPREAD)
def test_exact_mode_is_safety_gymnasium(env_id: str) -> None:
    """Observations, rewards, costs and flags; goals and obstacles that the agent is carried to; automatic resets."""
    result = compare_exact(env_id, worlds=1, steps=STEPS, horizon=HORIZON, seed=5)
    assert_agrees(result)
    assert result.steps == STEPS
    assert result.resets >= 1
    assert result.worst.keys() == {"observation", "reward", "cost", "terminated", "truncated"}


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", "SafetyRacecarPush2-v0", "SafetyCarButton1-v0"])
def test_amounts_of_cost_are_safety_gymnasiums(env_id: str) -> None:
    """Every hazard, contact and moving vase of a step counts, though by default it only matters whether one does."""
    result = compare_exact(env_id, worlds=1, steps=100, amounts=True)
    assert_agrees(result)


def test_fading_is_goal_to_who_sees_no_colours() -> None:
    """Goal and hazards lose their colour over time; the lidar does not see it, and nothing else changes."""
    assert_agrees(compare_exact("SafetyPointFadingEasy1-v0", worlds=1, steps=STEPS, horizon=HORIZON))


def assert_agrees(result: Agreement) -> None:
    assert not result.first, result
    assert not result.missing, result


def test_comparison_notices_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = Costs.cost
    monkeypatch.setattr(Costs, "cost", lambda self: cost(self) + (2e-6 if self._physics._batch.time[0] > 0.19 else 0))
    result = compare_exact("SafetyPointGoal1-v0", worlds=2, steps=30)
    assert result.first == "cost of world 0 at step 9"
    assert result.worst["observation"] < 1e-9
    assert result.worst["cost"] == pytest.approx(2e-6)


def test_comparison_notices_what_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Carrier, "carry_all", lambda *_: None)
    result = compare_exact("SafetyPointGoal2-v0", worlds=1, steps=3)
    assert not result.first
    assert result.missing == ["a goal", "touched vases", "a cost"]


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", "SafetyPointPush1-v0"])
def test_fast_mode_is_exact_until_the_first_contact(env_id: str) -> None:
    result = compare_until_contact(env_id, worlds=2, steps=150)
    assert_agrees(result)
    assert result.steps > 150


@pytest.mark.parametrize("env_id", ["SafetyPointGoal2-v0", "SafetyCarGoal1-v0"])
def test_contacts_are_counted_with_vases_that_slept(env_id: str) -> None:
    twins = Twins(env_id, 1, mode="fast", seed=1)
    twins.reset()
    worlds, draw = twins.env.worlds, Drift(twins.action_space, 1, seed=0)
    batch, vases = worlds.physics._batch, worlds.definition.group("vases")
    assert vases is not None
    assert vases.bodies is not None
    assert vases.touch is not None
    model = batch.get_model(0)
    agent, owner = model.body("agent").id, roots(model)
    trees = model.body_treeid[vases.bodies]
    slept, counts = [], []
    for step in range(80):
        if step == 30:
            assert Carrier(twins).carry(0, "vases", above=True)
        # the original's own step is of no interest here
        action = draw() if step < 30 else np.array([[1.0, 0.3]])
        worlds.step(action)
        data = batch.get_data(0)
        touching = [{owner[a], owner[b]} for a, b in contacts(data)]
        expected = [sum(pair == {agent, body} for pair in touching) for body in vases.bodies]
        np.testing.assert_array_equal(worlds.physics.sensors[0, vases.touch], expected)
        counts.append(sum(expected))
        slept.append(data.tree_asleep[trees] >= 0)  # negative for trees that are awake
    assert slept[29].all(), "vases that nothing has touched sleep"
    assert not any(counts[:30])
    assert not slept[31].all(), "a touched vase wakes"
    assert sum(counts[30:]) >= 3
    twins.close()


def test_vases_cost_until_they_lie_still_in_both_modes() -> None:
    """They creep for many steps after a push: MuJoCo's own tolerance lets them sleep while they still cost."""
    costs = {}
    for mode in ("exact", "fast"):
        worlds = NavigationEnv("SafetyPointGoal2-v0", 1, 1, mode, 1).worlds
        worlds.reset(np.array([0]))
        vases = worlds.definition.group("vases")
        assert vases is not None
        assert vases.bodies is not None
        first = worlds.definition.model.body_dofadr[vases.bodies]
        worlds.physics._batch.qvel[0, first] = 0.3 * np.arange(1, len(first) + 1)
        costs[mode] = [worlds.step(np.zeros((1, 2))).cost[0] for _ in range(60)]
    assert costs["fast"] == costs["exact"]
    assert 20 < sum(costs["exact"]) < 55


def test_episodes_of_both_modes_are_measured_alike() -> None:
    """Without a touched vase they are the same episodes, whose measures are the sums of what the environment gives."""
    measured = {}
    for mode in ("exact", "fast"):
        env = NavigationEnv("SafetyPointGoal1-v0", 1, 6, mode, 1, seed=2, horizon=40)
        measured[mode] = run_episodes(env, make_random_policy(env, 0))
    for name, exact in measured["exact"].items():
        np.testing.assert_allclose(measured["fast"][name], exact, atol=1e-6, err_msg=name)
    assert measured["exact"].keys() == {"return", "cost", "goals", "vase displacement"}
    assert (measured["exact"]["cost"] == np.round(measured["exact"]["cost"])).all()
    assert measured["exact"]["return"].std() > 0


def test_actor_of_a_checkpoint_is_restored(tmp_path: Path) -> None:
    actor = make_actor(60, 2, hidden=(7, 5), seed=3)
    actor.normaliser.update(torch.randn(100, 60, generator=torch.Generator().manual_seed(0)))
    state = {f"actor.{name}": value for name, value in actor.state_dict().items()}
    torch.save({"state_dict": {**state, "eta": torch.zeros(())}, "epoch": 3}, tmp_path / "last.ckpt")
    restored = load_actor(tmp_path / "last.ckpt")
    observation = torch.randn(4, 60, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(restored(observation), actor(observation), strict=True):
        assert (ours == theirs).all()
