"""Times PPO on an engine, and on Safety-Gymnasium's own vector environment.

python -m benchmarks.training_speed [--trainer sb3, ppo or ppo_lagrangian] [--id SafetyPointGoal1-v0] [--worlds 64]
    [--workers 2 8] [--steps 64000] [--batch STEPS] [--minibatch 64] [--repeats 3]

The trainer is Stable-Baselines3's PPO, or PPO or PPO-Lagrangian of examples/ppo_lagrangian.py. It has its own settings,
and runs by the same code on these worlds, which take turns:

* safety_gymnasium.vector: `safety_gymnasium.vector.make(id, N)`, asynchronous, with one worker process a world and the
  package's own resets, for each N of --workers. The fastest is the base of the ratios. A worker takes some 0.4 GB.
* engine, in each of its modes: `make_vec` with --worlds worlds.

A repeat is --steps environment steps of each, by default one whole episode of every world of the engine. It is several
episodes of each of fewer worlds, so that all numbers have their share of resets. The table has environment steps per
second of the whole training, and of the collection of data alone: medians, with the smallest and the largest of the
repeats in brackets. Most of Stable-Baselines3's training is its update, ten passes over minibatches of 64. A larger
--minibatch shortens it, for all worlds alike.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import set_start_method
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from benchmarks.machine import in_words
from benchmarks.original import own_vector_env
from benchmarks.trainers import Example, StableBaselines, Trainer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmaml_pl.envs import make_vec
from cmaml_pl.envs.safety_gymnasium_ids import check_env_id
from cmaml_pl.errors import UserError

TRAINERS: dict[str, tuple[str, int, Callable[[Any, int], Trainer]]] = {
    "sb3": ("Stable-Baselines3's PPO", 3200, StableBaselines),
    "ppo": ("PPO of examples/ppo_lagrangian.py", 16_000, partial(Example, limited=False)),
    "ppo_lagrangian": ("PPO-Lagrangian of examples/ppo_lagrangian.py", 16_000, partial(Example, limited=True)),
}
"""Name -> words, environment steps between two updates, and what makes it on an environment."""
MODES = ("exact", "fast")

console = Console(highlight=False, width=140)


@dataclass
class Contender:
    """A trainer on some worlds.

    Attributes:
        name: what the table calls the worlds.
        trainer: the trainer.
        own: whether the worlds are Safety-Gymnasium's own.
        training: environment steps per second of each repeat.
        collecting: the same of the collection of data alone.
    """

    name: str
    trainer: Trainer
    own: bool
    training: list[float] = field(default_factory=list)
    collecting: list[float] = field(default_factory=list)

    def measure(self, steps: int) -> None:
        """One more repeat."""
        started, updated = perf_counter(), self.trainer.updating
        self.trainer.train(steps)
        seconds = perf_counter() - started
        self.training.append(steps / seconds)
        self.collecting.append(steps / (seconds - (self.trainer.updating - updated)))


def compare(options: argparse.Namespace) -> Table:
    """Measure the trainer on all worlds."""
    words, batch, build = TRAINERS[options.trainer]
    if options.trainer == "sb3":
        build = partial(StableBaselines, minibatch=options.minibatch)
    batch = options.batch or batch
    with ExitStack() as stack:
        # forks come first: those of a process that has computed with threads may hang
        envs: list[tuple[str, bool, Any]] = [
            (f"safety_gymnasium.vector, {number} worlds", True, own_vector_env(options.id, number))
            for number in options.workers
        ]
        number = options.worlds
        envs += [(f"engine, {mode}, {number} worlds", False, make_vec(options.id, number, mode, 0)) for mode in MODES]
        for _, _, env in envs:
            stack.callback(env.close)
        found = [Contender(name, build(env, batch), own) for name, own, env in envs]
        for contender in found:
            contender.trainer.train(batch)  # not counted: it includes what is built on first use
        for _ in range(options.repeats):
            for contender in found:
                contender.measure(options.steps)
    return drawn(words, found)


def drawn(title: str, found: Sequence[Contender]) -> Table:
    """Medians and ranges, and ratios to Safety-Gymnasium's own vector environment with the best number of worlds."""
    table = Table("worlds", "steps/s", "ratio", "steps/s, collecting", "ratio", title=title)
    own = [contender for contender in found if contender.own]
    training = max((contender.training for contender in own), key=statistics.median)
    collecting = max((contender.collecting for contender in own), key=statistics.median)
    for contender in found:
        row = [contender.name]
        for measured, base in ((contender.training, training), (contender.collecting, collecting)):
            row += [spread(measured, ",.0f"), spread([a / b for a, b in zip(measured, base, strict=True)], ".2f")]
        table.add_row(*row)
    return table


def spread(values: Sequence[float], form: str) -> str:
    """Median, and in brackets the smallest and the largest."""
    return escape(f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]")


def run(options: argparse.Namespace) -> None:
    """Measure, and print the table.

    Raises:
        UserError: no engine runs the id, the worlds do not share the steps equally, or Stable-Baselines3 is missing.
    """
    horizon = check_env_id(options.id, None, id_key="--id")
    options.steps = options.steps or options.worlds * horizon
    batch = options.batch or TRAINERS[options.trainer][1]
    if options.steps % batch or any(batch % worlds for worlds in (options.worlds, *options.workers)):
        raise UserError(
            f"An update follows {batch} steps (--batch): --steps ({options.steps}) must be a multiple of them, "
            "and they one of --worlds and of each of --workers."
        )
    torch.set_num_threads(1)  # more would take the cores from the physics
    torch.manual_seed(0)
    set_start_method("fork", force=True)  # Safety-Gymnasium's worlds cannot be imported anew
    console.print(in_words())
    console.print(compare(options))
    console.print(f"At the end: {in_words()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; bad input ends with exit code 2 and one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--trainer", choices=list(TRAINERS), default="sb3")
    add("--id", default="SafetyPointGoal1-v0")
    add("--worlds", type=int, default=64, help="of the engine")
    add("--workers", type=int, nargs="+", default=[2, 8], help="of Safety-Gymnasium's own vector environment")
    add("--steps", type=int, help="of a repeat; default: an episode of each world of the engine")
    add("--batch", type=int, help=f"steps between two updates; default: {', '.join(batches())}")
    add("--minibatch", type=int, default=64, help="samples of a gradient of Stable-Baselines3's PPO")
    add("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    if min(options.worlds, options.repeats, *options.workers) < 1:
        parser.error("--worlds, --workers and --repeats must be at least 1")
    try:
        run(options)
    except UserError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)


def batches() -> list[str]:
    """Steps between two updates of each trainer, in words."""
    return [f"{batch:,} for {name}" for name, (_, batch, _) in TRAINERS.items()]


if __name__ == "__main__":
    main()
