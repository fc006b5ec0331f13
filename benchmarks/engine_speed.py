"""Environment steps per second of the two engines, of vector environments and of bare physics.

python -m benchmarks.engine_speed [--quick] [--ids ID ...] [--out benchmark.json]

Without options it takes about 45 minutes on two idle cores. These contenders are compared for each id. While one is
timed, the others do nothing, and all of them get actions as a random 64x64 tanh Gaussian policy gives them:

* engine_fast, engine_exact: NavigationEnv, or LocomotionEnv, which has no fast mode, through TorchRL's Collector.
* vector_as_is_N: safety_gymnasium.vector with N worker processes; the best N counts.
* vector_stripped_N: the same with the resets that cmaml_pl's import of the package makes cheap (no skybox, libyaml).
  For robots on legs nothing is made cheap, and this contender is left out.
* gymnasium_N: for robots on legs, gymnasium's AsyncVectorEnv of the same body without costs.
* physics_fast, physics_exact: only the MuJoCo calls of a step, with sleeping and without, in native threads. There are
  no observations, and no resets but of robots that have fallen, because lying on the floor is other physics. So no
  program can step this physics faster on these cores.

A repeat is one whole episode of every world, including the automatic reset (for bare physics it is 5 s). Its result is
the number of steps divided by the seconds. A repeat is cut into ten slices, and in each slice all contenders take their
turn. So if the machine is shared or slows down, this affects all of them alike. Environments live through all repeats.
The vector environments take about 6 GB of memory, most of it for the skyboxes.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.contenders import (
    LEAST_WORLDS,
    PHYSICS_WORLDS,
    SLICES,
    Contender,
    Engine,
    LocomotionPhysics,
    Memory,
    Physics,
    VectorEnv,
)
from benchmarks.machine import machine
from benchmarks.running import Running
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmaml_pl.cores import usable_cores
from cmaml_pl.envs.safety_gymnasium_ids import check_env_id
from cmaml_pl.errors import UserError

IDS = (
    "SafetyPointGoal1-v0",
    "SafetyPointGoal2-v0",
    "SafetyCarGoal1-v0",
    "SafetyPointButton1-v0",
    "SafetyPointPush1-v0",
    "SafetyDoggoGoal1-v0",
    "SafetyHalfCheetahVelocity-v1",
    "SafetyHopperVelocity-v1",
    "SafetyWalker2dVelocity-v1",
    "SafetyAntVelocity-v1",
    "SafetyHumanoidVelocity-v1",
)
QUICK_IDS = IDS[:1]
MODES = ("fast", "exact")
PARTS = ("engine", "vector", "physics", "memory")
RIVALS = {"vector_as_is": "vector as is", "vector_stripped": "stripped", "gymnasium": "gymnasium", "physics": "physics"}
"""Contenders that the engines are compared with -> heading in the table."""
WITH_WORKERS = ("vector", "gymnasium")
WORKERS = (2, 8)
MARGIN = 0.9
"""A number of workers is not measured further if its steps/s in the first repeat are below this share of the best."""
MEMORY_ID, MEMORY_WORLDS = "SafetyPointGoal2-v0", 1024

Figures = dict[str, list[float]]
"""Name of a contender -> steps/s in each repeat."""

console = Console(highlight=False, width=170)


def contenders(env_id: str, options: argparse.Namespace) -> dict[str, Callable[[], Contender]]:
    """Name -> function that builds the contender, for all contenders of an id."""
    steps = options.steps or check_env_id(env_id, None)
    found: dict[str, Callable[[], Contender]] = {}
    on_legs = env_id.endswith("Velocity-v1")
    modes = MODES[1:] if on_legs else MODES
    if "engine" in options.only:
        for mode in modes:
            found[f"engine_{mode}"] = partial(
                Engine, env_id, mode, options.num_envs, steps, options.window, options.threads
            )
    if "vector" in options.only:
        for kind in ("gymnasium", "vector_as_is") if on_legs else ("vector_as_is", "vector_stripped"):
            for workers in options.workers:
                found[f"{kind}_{workers}"] = partial(VectorEnv, env_id, workers, steps, kind=kind)
    if "physics" in options.only and on_legs:
        found["physics_exact"] = partial(LocomotionPhysics, env_id, options.threads)
    elif "physics" in options.only:
        found |= {f"physics_{mode}": partial(Physics, env_id, mode, options.threads) for mode in MODES}
    return found


def measure(env_id: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all repeats of an id. Return the entry of the id in the JSON file."""
    figures: Figures = {}
    with ExitStack() as stack:
        running, worlds = {}, {}
        for name, build in contenders(env_id, options).items():
            running[name] = stack.enter_context(Running(build))
            worlds[name] = running[name].wait()
            figures[name] = []
        for repeat in range(options.repeats):
            slices = [{name: contender.measure() for name, contender in running.items()} for _ in range(SLICES)]
            for name in running:
                figures[name].append(statistics.harmonic_mean(measured[name] for measured in slices))
            if repeat == 0:
                running = {name: contender for name, contender in running.items() if promising(name, figures)}
    medians = {name: statistics.median(values) for name, values in figures.items()}
    return {"worlds": worlds, "steps_per_second": figures, "medians": medians, "ratios": ratios(figures)}


def promising(name: str, figures: Figures) -> bool:
    """Whether a contender is measured further: no for a vector environment whose number of workers is too slow."""
    kind = name.rpartition("_")[0]
    return not name.startswith(WITH_WORKERS) or figures[name][-1] >= MARGIN * figures[best(kind, figures)][-1]


def best(kind: str, figures: Figures) -> str:
    """The contender with the best median among those whose names start with `kind`, e.g. `vector_as_is`."""
    return max((name for name in figures if name.startswith(kind)), key=lambda name: statistics.median(figures[name]))


def ratios(figures: Figures) -> dict[str, dict[str, Any]]:
    """Mode -> rival -> the engine's steps/s divided by the rival's, for the medians and for each repeat."""
    found: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    for mode in MODES:
        for kind in RIVALS:
            rival, engine = f"physics_{mode}" if kind == "physics" else kind, f"engine_{mode}"
            if engine not in figures or not any(name.startswith(rival) for name in figures):
                continue
            rival = best(rival, figures)
            each = [ours / theirs for ours, theirs in zip(figures[engine], figures[rival], strict=True)]
            median = statistics.median(figures[engine]) / statistics.median(figures[rival])
            found[mode][kind] = {"rival": rival, "of_medians": median, "per_repeat": each}
    return found


def measure_memory(options: argparse.Namespace) -> dict[str, Any]:
    """Resident memory of MEMORY_WORLDS worlds, MiB, for each mode; it is the entry "memory" of the JSON file."""
    found: dict[str, Any] = {"id": MEMORY_ID, "worlds": MEMORY_WORLDS}
    for mode in MODES:
        with Running(partial(Memory, MEMORY_ID, mode, MEMORY_WORLDS, options.threads)) as running:
            running.wait()
            total = running.measure()
        found[mode] = {"total_mib": total, "mib_per_world": total / MEMORY_WORLDS}
    return found


def speed_table(results: dict[str, dict[str, Any]]) -> Table:
    """A table of medians and ratios, with a row for each id and mode."""
    table = Table(title="environment steps per second: medians, and engine over rival [min..max of the repeats]")
    measured = {name for result in results.values() for name in result["steps_per_second"]}
    rivals = [kind for kind in RIVALS if any(name.startswith(kind) for name in measured)]
    columns = ["id", "mode", "worlds", "engine", *(text for kind in rivals for text in (RIVALS[kind], "ratio"))]
    for column in columns:
        table.add_column(column, justify="left" if column in ("id", "mode") else "right", no_wrap=True)
    for env_id, result in results.items():
        figures = result["steps_per_second"]
        for mode in (mode for mode in MODES if any(name.endswith(mode) for name in figures)):
            engine = f"engine_{mode}"
            cells = [str(result["worlds"].get(engine, "")), median_text(engine, figures)]
            for kind in rivals:
                cells.append(median_text(f"physics_{mode}" if kind == "physics" else kind, figures))
                cells.append(ratio_text(result["ratios"][mode].get(kind)))
            table.add_row(env_id, mode, *cells)
    return table


def median_text(kind: str, figures: Figures) -> str:
    """The median of the best contender of a kind, with its number of workers in parentheses; empty without one."""
    if not any(name.startswith(kind) for name in figures):
        return ""
    name = best(kind, figures)
    workers = f" ({name.rpartition('_')[2]})" if kind.startswith(WITH_WORKERS) else ""
    return f"{statistics.median(figures[name]):,.0f}{workers}"


def ratio_text(ratio: dict[str, Any] | None) -> str:
    """A ratio with its smallest and largest value over the repeats; empty without a ratio."""
    if ratio is None:
        return ""
    return escape(f"{ratio['of_medians']:.3g} [{min(ratio['per_repeat']):.3g}..{max(ratio['per_repeat']):.3g}]")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the message as one line, and exit with code 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def count(text: str) -> int:
    """An integer of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of 1 or more")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line; those that are not given have the defaults, which depend on --quick."""
    parser = OneLineParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--ids", nargs="+", metavar="ID", help="Safety-Gymnasium ids (default: eleven)")
    add("--repeats", type=count, help="default 5")
    add("--num-envs", type=count, default=512, help="most worlds of the engine (default 512)")
    window = f"seconds; where a repeat of --num-envs worlds would take longer, fewer run, at least {LEAST_WORLDS}"
    add("--window", type=count, help=f"{window} (default 10)")
    add("--steps", type=count, help="of every world in a repeat (default: one episode of the id)")
    add("--threads", type=count, default=usable_cores(), help="of engine and physics (default: usable cores)")
    add("--workers", type=count, nargs="+", default=WORKERS, help="of the vector environments (default: 2 8)")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (default: all)")
    add("--memory", dest="only", action="store_const", const=("memory",), help="the same as --only memory")
    add("--quick", action="store_true", help="unless given, 1 id, 3 repeats, a window of 5 s: about 3 minutes")
    add("--out", type=Path, default=Path("benchmark.json"), help="default benchmark.json")
    options = parser.parse_args(arguments)
    options.ids = options.ids or (QUICK_IDS if options.quick else IDS)
    options.repeats = options.repeats or (3 if options.quick else 5)
    options.window = options.window or (5 if options.quick else 10)
    return options


def run(options: argparse.Namespace) -> None:
    """Measure and print; write the JSON file after every id, so that an interrupted run keeps its results."""
    try:
        for env_id in options.ids:
            check_env_id(env_id, None)
    except UserError as error:  # its message names the configuration's key instead of --ids
        raise UserError(str(error).replace("tasks.env_id", "--ids")) from None
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    settings |= {"physics_worlds": PHYSICS_WORLDS}
    report: dict[str, Any] = {"machine": machine(), "settings": settings, "results": {}}
    write(options.out, report)
    for env_id in options.ids if set(options.only) - {"memory"} else ():
        start = time.perf_counter()
        report["results"][env_id] = measure(env_id, options)
        write(options.out, report)
        console.print(f"{env_id}: {options.repeats} repeats in {time.perf_counter() - start:.0f} s", style="dim")
    if report["results"]:
        console.print(speed_table(report["results"]))
    if "memory" in options.only:
        report["memory"] = memory = measure_memory(options)
        write(options.out, report)
        for mode in MODES:
            per_world, total = memory[mode]["mib_per_world"], memory[mode]["total_mib"]
            console.print(f"{MEMORY_WORLDS} worlds of {MEMORY_ID}, {mode}: {total:,.0f} MiB, {per_world:.2f} MiB each")
    console.print(f"Written to {options.out}.")


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the report as JSON."""
    try:
        path.write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}.") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; bad input ends with exit code 2 and one line."""
    options = parse(arguments)
    try:
        run(options)
    except UserError as error:
        print(f"{Path(__file__).name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
