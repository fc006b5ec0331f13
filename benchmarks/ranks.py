"""Compares communication and computation of a meta-iteration that several processes (ranks) share.

python -m benchmarks.ranks [--exp point_goal] [--ranks 1 2 4] [--iterations 6] [--out ranks.json] [key=value ...]

First it measures, for every number of ranks on this machine, the seconds of a meta-iteration (the median over all but
the first) and the share of this time in which rank 0 communicates or waits for the others. Then it measures messages
between two processes that do nothing else, and fits a latency and a rate to their times. From both it computes how long
a meta-iteration would take on N machines with as many cores as this one, connected by such a link or by a network. A
sum over N ranks in a ring takes 2 (N - 1) latencies and sends 2 (N - 1) / N of the message through each link (Patarasuk
& Yuan 2009). The efficiency is for a meta-batch that grows with the machines, on the 10 Gbit/s network, with
`critic.samples` at what one machine has, so that every machine does its own tasks and the same work on critics.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.assembly import open_module
from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.configuration.schema import Config
from cmaml_pl.distributed.ranks import Ranks

ETHERNET = (50e-6, 1.25e9)
"""Latency, s, and rate, bytes/s, of a common 10 Gbit/s network between machines; assumed, not measured."""
BEYOND = (8, 16, 32, 64)
"""Numbers of machines for which the time is computed."""
SIZES = (256, 1_000_000)
"""Sizes of the messages to which latency and rate are fitted: how many numbers a message holds."""


@dataclass(frozen=True)
class Measured:
    """Times of a meta-iteration with `ranks` processes on this machine.

    Attributes:
        ranks: number of processes.
        seconds: duration of a meta-iteration, s.
        communication_share: share of this time in which rank 0 communicates or waits.
        messages: number of messages of a meta-iteration.
    """

    ranks: int
    seconds: float
    communication_share: float
    messages: int


def measure(exp: str, ranks: int, iterations: int, overrides: Sequence[str]) -> Measured:
    """Times of a meta-iteration, measured in a training that is started by the command that a user would give."""
    with tempfile.TemporaryDirectory() as folder:
        keys = [
            *(f"exp={exp}", f"trainer.devices={ranks}", f"train.meta_iterations={iterations}", "run.id=a"),
            *(f"train.validate_every={iterations}", "logger.wandb=disabled", "quiet=true", f"run.dir={folder}"),
        ]
        subprocess.run([sys.executable, "-m", "cmaml_pl", "train", *keys, *overrides], check=True)
        lines = read_metrics(Path(folder) / exp / "a" / "metrics.csv")
    steps = [line["throughput/env_steps"] for line in lines]
    seconds = [(steps[i] - steps[i - 1]) / lines[i]["throughput/env_steps_per_s"] for i in range(1, len(lines))]
    shares = [line.get("throughput/communication_share", 0.0) for line in lines[1:]]
    messages = lines[-2].get("throughput/messages", 0.0)  # the last one validates as well
    return Measured(ranks, statistics.median(seconds), statistics.median(shares), int(messages))


def large_messages(config: Config) -> tuple[list[tuple[int, int]], int]:
    """The messages of a meta-iteration that hold more than a few numbers.

    Returns:
        Sums over the ranks, as pairs: how many numbers a message holds, and how many such messages are sent. And how
        many numbers of all ranks together each rank is given for the critics.
    """
    with open_module(config) as module:
        actor, observation = module.actor.vector().numel(), module.actor.normaliser.mean.numel()
    samples = config.train.tasks_per_batch * config.rollout.envs_per_task * config.rollout.horizon
    # of each sample the observation and a target, for V_C with the time that is left
    gathered = min(samples, config.critic.samples) * ((observation + 1) + (observation + 2))
    return [(actor, config.outer.passes), (observation, 2)], gathered


def _time_sums(rank: int, file: str, repeats: int, results: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    for size in SIZES:
        numbers, seconds = torch.ones(size), []
        for _ in range(repeats):
            dist.barrier()
            started = time.perf_counter()
            ranks.sum_([numbers])
            seconds.append(time.perf_counter() - started)
        if rank == 0:
            results[size] = statistics.median(seconds)
    dist.destroy_process_group()


def measure_link(repeats: int = 200) -> tuple[float, float]:
    """Latency, s, and rate, bytes/s, of messages between two processes of this machine."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, spawn.Manager() as manager:
        results = manager.dict()
        arguments = (str(Path(folder) / "store"), repeats, results)
        processes = [spawn.Process(target=_time_sums, args=(rank, *arguments)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        seconds = dict(results)
    small, large = SIZES
    rate = 4 * (large - small) / (seconds[large] - seconds[small])  # with two ranks each link carries the message once
    return (seconds[small] - 4 * small / rate) / 2, rate


def communication(
    sums: Sequence[tuple[int, int]], gathered: int, small: int, ranks: int, latency: float, rate: float
) -> float:
    """Seconds that the messages of a meta-iteration take in a ring of `ranks` machines.

    Args:
        sums: pairs as from `large_messages`.
        gathered: as from `large_messages`; they pass every link but one, in two messages.
        small: number of further messages, of a few numbers each; all count as sums.
        ranks: number of machines.
        latency: latency of a link, s.
        rate: rate of a link, bytes/s.
    """
    added = sum(count * 2 * (ranks - 1) * (latency + 4 * size / ranks / rate) for size, count in [*sums, (1, small)])
    return added + (ranks - 1) * (2 * latency + 4 * gathered / ranks / rate)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compute, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", default="point_goal")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("ranks.json"))
    parser.add_argument("overrides", nargs="*", help="key=value, for all")
    options = parser.parse_args(arguments)
    if options.iterations < 2 or min(options.ranks) < 1:
        parser.error("--iterations must be at least 2 and --ranks at least 1")
    console = Console(highlight=False)
    measured = [measure(options.exp, ranks, options.iterations, options.overrides) for ranks in options.ranks]
    alone = next((one.seconds for one in measured if one.ranks == 1), None)
    columns = ("ranks", "s / meta-iteration", "communication and waiting", "messages")
    table = Table(*columns, title=f"{options.exp}, on this machine")
    for one in measured:
        table.add_row(str(one.ranks), f"{one.seconds:.2f}", f"{one.communication_share:.1%}", str(one.messages))
    console.print(table)

    (sums, gathered), local = large_messages(load_experiment(options.exp, options.overrides)), measure_link()
    links = {"this machine's": local, "10 Gbit/s": ETHERNET}
    computed, number = [], max(one.messages for one in measured)
    if alone is not None and number:
        small = number - sum(count for _, count in sums) - 2
        size = 4e-6 * (sum(size * count for size, count in sums) + gathered)
        title = f"computed, machines like this one: {number} messages of a meta-iteration, in all {size:.1f} MB"
        times = [f"communication, s, {name} link" for name in links]
        table = Table("machines", "same meta-batch, s", *times, "efficiency, meta-batch x machines", title=title)
        for ranks in BEYOND:
            row = {name: communication(sums, gathered, small, ranks, *link) for name, link in links.items()}
            efficiency = alone / (alone + row["10 Gbit/s"])
            computed.append({"ranks": ranks, "computation": alone / ranks, "communication": row, "grown": efficiency})
            seconds = (f"{seconds:.2f}" for seconds in row.values())
            table.add_row(str(ranks), f"{alone / ranks:.2f}", *seconds, f"{efficiency:.2f}")
        console.print(table)
    result = {"exp": options.exp, "measured": [asdict(one) for one in measured], "links": links, "computed": computed}
    options.out.write_text(json.dumps(result, indent=2))
    console.print(f"Written to {options.out}.")


if __name__ == "__main__":
    main()
