"""PPO-Lagrangian, and PPO, on the engine: the example in examples/ppo_lagrangian.py."""

import os
import re
import runpy
import subprocess
import sys

import pytest
import torch
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


@pytest.mark.parametrize(("limit", "matters"), [(float("inf"), False), (25.0, True)])
def test_without_a_limit_cost_changes_nothing_that_plays(limit, matters):
    example = runpy.run_path(str(EXAMPLE))
    args = example["Args"](cost_limit=limit, minibatches=2, epochs=2, max_grad_norm=0.01)  # one norm of all gradients
    learned = []
    with torch.random.fork_rng():
        for cost in (0.0, 5.0):
            torch.manual_seed(0)
            agent = example["Agent"](4, 2)
            data = {
                name: torch.randn(32, size) for name, size in {"x": 4, "action": 2, "advantage": 2, "target": 2}.items()
            }
            data["log_prob"] = agent.policy(data["x"]).log_prob(data["action"]).sum(-1).detach()
            data["target"][:, 1] += cost
            example["update"](agent, torch.optim.Adam(agent.parameters()), data, 0.0, args)
            learned.append(
                torch.cat([part.flatten() for part in (*agent.mean.parameters(), *agent.critics[0].parameters())])
            )
    assert torch.equal(*learned) != matters


def test_it_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 200
