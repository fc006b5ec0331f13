"""Times Stable-Baselines3's PPO on an engine, and on Safety-Gymnasium's own worlds in worker processes.

python -m benchmarks.sb3_speed [--id SafetyPointGoal1-v0] [--steps 4096] [--repeats 3] [--workers 8]

Each contender trains with PPO's defaults, `steps` environment steps at a time, and the contenders take turns. The
engine runs 64 worlds in each of its modes. Safety-Gymnasium's worlds run in SubprocVecEnv, one a worker, with the
cheaper resets of cmaml_pl's import. The table has environment steps per second of the whole training, and of the
collection of data alone, because most of the training is PPO's update, which is the same for all. It needs
Stable-Baselines3 (`pip install 'stable-baselines3>=2.3,<3'`).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor

from cmaml_pl.envs import make_sb3_vec
from cmaml_pl.envs.safety_gymnasium_import import import_safety_gymnasium

WORLDS = 64
"""Worlds of the engine."""


class Collecting(BaseCallback):
    """Measures the time in which data are collected.

    Attributes:
        seconds: this time, s.
    """

    seconds = 0.0

    def _on_rollout_start(self) -> None:
        self._started = time.perf_counter()

    def _on_rollout_end(self) -> None:
        self.seconds += time.perf_counter() - self._started

    def _on_step(self) -> bool:
        return True


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

    def measure(self, steps: int) -> None:
        """Train for `steps` environment steps."""
        callback, started = Collecting(), time.perf_counter()
        self.agent.learn(steps, callback=callback, reset_num_timesteps=False)
        self.training.append(steps / (time.perf_counter() - started))
        self.collecting.append(steps / callback.seconds)


def contenders(env_id: str, steps: int, workers: int) -> list[Contender]:
    """The contenders; each collects `steps` environment steps before an update."""
    safety_gymnasium = import_safety_gymnasium()
    from safety_gymnasium.wrappers import SafetyGymnasium2Gymnasium

    def world() -> Any:
        return SafetyGymnasium2Gymnasium(safety_gymnasium.make(env_id, disable_env_checker=True))

    makers: dict[str, Callable[[], Any]] = {
        f"safety_gymnasium in {workers} workers": lambda: VecMonitor(SubprocVecEnv([world] * workers, "fork")),
        f"engine, exact, {WORLDS} worlds": lambda: make_sb3_vec(env_id, WORLDS, "exact", seed=0),
        f"engine, fast, {WORLDS} worlds": lambda: make_sb3_vec(env_id, WORLDS, "fast", seed=0),
    }
    envs = {name: make() for name, make in makers.items()}
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


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="SafetyPointGoal1-v0")
    parser.add_argument("--steps", type=int, default=4096, help=f"of a repeat, a multiple of {WORLDS} and the workers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
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


if __name__ == "__main__":
    main()
