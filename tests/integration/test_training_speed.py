"""The benchmark of PPO on an engine and on Safety-Gymnasium's own vector environment."""

import re

import pytest
from benchmarks.machine import in_words, processor
from benchmarks.original import original_resets
from tests.commands import run

from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium

SIZES = {"worlds": 4, "workers": 2, "steps": 64, "batch": 64, "repeats": 1}
SMALL = [*(f"--{name}={size}" for name, size in SIZES.items())]


@pytest.mark.parametrize(
    ("trainer", "title"), [("sb3", "Stable-Baselines3's PPO"), ("ppo", "PPO of examples/ppo_lagrangian.py")]
)
def test_it_times_a_trainer_on_all_worlds_beside_the_machine(trainer, title, tmp_path):
    if trainer == "sb3":
        pytest.importorskip("stable_baselines3")
    printed = run("benchmarks.training_speed", f"--trainer={trainer}", *SMALL, cwd=tmp_path)
    assert printed.count(processor()) == 2
    assert title in (line.strip() for line in printed.splitlines())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]
    worlds = ["safety_gymnasium.vector, 2 worlds", "engine, exact, 4 worlds", "engine, fast, 4 worlds"]
    assert [row[0] for row in rows] == worlds
    for row in rows:
        for cell in row[1:]:
            median, low, high = (float(number.replace(",", "")) for number in re.findall(r"[\d.,]*\d", cell))
            assert 0 < low <= median <= high, row
    assert rows[0][2::2] == ["1.00 [1.00, 1.00]"] * 2  # the base


def test_what_cannot_be_shared_is_refused(tmp_path):
    printed = run("benchmarks.training_speed", *SMALL, "--workers=3", cwd=tmp_path, code=2)
    assert "An update follows 64 steps (--batch): --steps (64) must be a multiple" in printed


def test_its_baseline_has_safety_gymnasiums_own_resets():
    """They compile the sky as well, which cmaml_pl's import leaves out."""
    package = import_safety_gymnasium()

    def textures():
        env = package.make("SafetyPointGoal1-v0", disable_env_checker=True)
        env.reset(seed=0)
        found = env.unwrapped.task.model.ntex
        env.close()
        return found

    with original_resets():
        own = textures()
    assert own == textures() + 1


def test_the_processor_is_named(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nprocessor\t: 1\n")
    assert processor(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert processor(tmp_path / "nothing")
    assert re.fullmatch(r".+, \d+ cores, load \d+\.\d\d, \d+\.\d\d, \d+\.\d\d \(1, 5 and 15 minutes\)", in_words())
