"""PPO-Lagrangian on the engine alone: the example in examples/ppo_lagrangian.py."""

import os
import re
import subprocess
import sys

from tests.commands import ROOT, python_path

EXAMPLE = ROOT / "examples/ppo_lagrangian.py"
NUMBER = r"\s*(-?[\d.,]+)"


def test_it_trains_and_raises_its_multiplier_while_cost_is_over_the_limit(tmp_path):
    small = {"num-envs": 8, "num-steps": 50, "episode-steps": 100, "total-steps": 1600, "minibatches": 2, "epochs": 2}
    limit = {"env-id": "SafetyPointGoal1-v0", "cost-limit": -1.0, "multiplier-rate": 0.1}
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    command += [f"--{name}={value}" for name, value in {**small, **limit}.items()]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    line = NUMBER.join(["", "  return", "  cost", "  lambda", "  steps/s", ""])
    found = [re.fullmatch(line, printed) for printed in done.stdout.splitlines()]
    assert all(found), done.stdout
    steps, gains, costs, weights, _ = zip(*(match.groups() for match in found), strict=True)
    assert steps == ("800", "1,600")  # all worlds end an episode after 100 steps
    assert len(set(gains)) == 2
    risen = 0.1 * (float(costs[0]) + 1)
    assert abs(float(weights[0]) - risen) < 0.01
    assert float(weights[1]) > float(weights[0])


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 200
