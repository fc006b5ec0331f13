"""Times a meta-iteration on the CPU and on a GPU, for networks of several widths: from which width on a GPU pays.

python -m benchmarks.accelerator [--exp point_goal] [--widths 64 256 1024] [--on cpu gpu] [--iterations 6] [key=value]

Policy and critics have two hidden layers of each width. The seconds are medians over all meta-iterations but the first,
rollouts included. On the CPU a rollout's worlds and the updates use all cores, see `rollout.workers`.
"""

import argparse
from collections.abc import Sequence

from benchmarks.ranks import measure
from lightning.pytorch.accelerators import CUDAAccelerator
from rich.console import Console
from rich.table import Table


def run(exp: str, widths: Sequence[int], accelerators: Sequence[str], iterations: int, keys: Sequence[str]) -> Table:
    """A row for each width: seconds of a meta-iteration on each of the accelerators, and how they compare."""
    columns = ("width", *(f"{name}, s / meta-iteration" for name in accelerators), "first / last")
    table = Table(*columns, title=exp)
    for width in widths:
        networks = [f"{part}.hidden=[{width},{width}]" for part in ("policy", "critic")]
        seconds = [
            measure(exp, 1, iterations, [*networks, f"trainer.accelerator={name}", *keys]).seconds
            for name in accelerators
        ]
        table.add_row(str(width), *(f"{one:.3f}" for one in seconds), f"{seconds[0] / seconds[-1]:.2f}")
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--exp", default="point_goal")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--on", nargs="+", default=["cpu", "gpu"], choices=["cpu", "gpu"])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("overrides", nargs="*", help="key=value, for all")
    options = parser.parse_args(arguments)
    if "gpu" in options.on and not CUDAAccelerator.is_available():
        parser.error("PyTorch finds no CUDA device here; --on cpu times the CPU alone")
    if options.iterations < 2 or min(options.widths) < 1:
        parser.error("--iterations must be at least 2 and --widths at least 1")
    Console(width=120).print(run(options.exp, options.widths, options.on, options.iterations, options.overrides))


if __name__ == "__main__":
    main()
