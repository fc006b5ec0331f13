"""Times Stable-Baselines3's PPO on an engine, and on Safety-Gymnasium's own worlds in worker processes.

python -m benchmarks.sb3_speed [--id SafetyPointGoal1-v0] [--steps 4096] [--repeats 3] [--workers 8]

Each contender trains with PPO's defaults, `steps` environment steps at a time, and the contenders take turns. The
engine runs 64 worlds in each of its modes. Safety-Gymnasium's worlds run in SubprocVecEnv, one a worker, with the
cheaper resets of cmaml_pl's import. The table has environment steps per second of the whole training, and of the
collection of data alone, because most of the training is PPO's update, which is the same for all. It needs
Stable-Baselines3 (`pip install 'stable-baselines3>=2.9,<3'`).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cmaml_pl.envs.safety_gymnasium_ids import check_env_id
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium
from cmaml_pl.errors import UserError

WORLDS = 64
"""Worlds of the engine."""


@dataclass
class Contender:
    """PPO on some worlds.

    Attributes:
        name: what the table calls it.
        agent: PPO.
        training: environment steps per second of each repeat.
        collecting: the same of the collection of data alone.
    """

    name: str
    agent: Any
    training: list[float] = field(default_factory=list)
    collecting: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let the agent's updates be timed."""
        self._updating, self._update = 0.0, self.agent.train
        self.agent.train = self._timed_update

    def _timed_update(self) -> None:
        started = time.perf_counter()
        self._update()
        self._updating = time.perf_counter() - started

    def measure(self, steps: int) -> None:
        """Collect data of `steps` environment steps, and update once."""
        started = time.perf_counter()
        self.agent.learn(steps, reset_num_timesteps=False)
        seconds = time.perf_counter() - started
        self.training.append(steps / seconds)
        self.collecting.append(steps / (seconds - self._updating))


def contenders(env_id: str, steps: int, workers: int) -> list[Contender]:
    """The contenders; each collects `steps` environment steps before an update.

    Raises:
        UserError: Stable-Baselines3 is missing, no engine runs the id, or the worlds do not share the steps equally.
    """
    from cmaml_pl.envs import make_sb3_vec  # first, because it says how to install Stable-Baselines3

    check_env_id(env_id, None, id_key="--id")
    if workers < 1 or steps < 1 or steps % WORLDS or steps % workers:
        raise UserError(f"--steps is {steps}; a multiple of {WORLDS} and of --workers ({workers}) is needed.")
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor

    safety_gymnasium = import_safety_gymnasium()
    from safety_gymnasium.wrappers import SafetyGymnasium2Gymnasium

    def world() -> Any:
        return SafetyGymnasium2Gymnasium(safety_gymnasium.make(env_id, disable_env_checker=True))

    engines = {mode: make_sb3_vec(env_id, WORLDS, mode, seed=0) for mode in ("exact", "fast")}
    envs = {
        f"safety_gymnasium in {workers} workers": VecMonitor(SubprocVecEnv([world] * workers, "fork")),
        **{f"engine, {mode}, {WORLDS} worlds": env for mode, env in engines.items()},
    }
    return [
        Contender(name, PPO("MlpPolicy", env, n_steps=steps // env.num_envs, seed=0, device="cpu"))
        for name, env in envs.items()
    ]


def print_table(found: Sequence[Contender]) -> None:
    """Medians, and the smallest and largest ratio of a repeat to the first contender."""
    table = Table("PPO on", "steps/s", "ratio", "steps/s, collecting", "ratio")
    for contender in found:
        row = [contender.name]
        for own, base in ((contender.training, found[0].training), (contender.collecting, found[0].collecting)):
            ratios = [mine / other for mine, other in zip(own, base, strict=True)]
            ends = f"[{min(ratios):.2g}, {max(ratios):.2g}]"
            row += [f"{statistics.median(own):,.0f}", f"{statistics.median(ratios):.2g} {ends}"]
        table.add_row(*row)
    Console(width=120).print(table)


def run(options: argparse.Namespace) -> None:
    """Measure, and print the table."""
    torch.set_num_threads(1)  # more would take the cores from the physics
    found = contenders(options.id, options.steps, options.workers)
    for contender in found:
        contender.measure(options.steps)  # not counted: it includes what is built on first use
        contender.training.clear()
        contender.collecting.clear()
    for _ in range(options.repeats):
        for contender in found:
            contender.measure(options.steps)
    print_table(found)
    for contender in found:
        contender.agent.get_env().close()


def main() -> None:
    """Run the benchmark; bad input ends with exit code 2 and one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="SafetyPointGoal1-v0")
    parser.add_argument("--steps", type=int, default=4096, help=f"of a repeat, a multiple of {WORLDS} and the workers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    try:
        run(parser.parse_args())
    except UserError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
