"""How much of a meta-gradient is signal, for settings of the advantages.

python -m benchmarks.meta_gradient RUN [--batches 4] [--ridge 0.03 3 30] [--gae-lambda 0.95 0.8]

The newest meta-policy of a run adapts to batches of its training tasks. Then, for each pair of settings and for the
reward and the cost alone:

* common: what the meta-gradients of the tasks, taken at their adapted policies, have in common. It is the mean product
  of two tasks' gradients, divided by the mean squared length of one. 0 is pure noise, 1 is no noise.
* true: the same product with the gradients of other tasks that use no critic (ridge 1e9, lambda 1), divided by the
  root mean squared lengths of both. It shows whether what is in common is the direction of the return.
* halves: mean cosine between the gradients of the first adaptation step from two halves of a task's worlds.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import torch
from benchmarks.engine_speed import OneLineParser, count
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cmaml_pl import load_run
from cmaml_pl.algorithm.adaptation import Stage
from cmaml_pl.algorithm.data import TaskDataModule
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.errors import UserError
from cmaml_pl.inner.trust_region import surrogate
from cmaml_pl.math.natural_gradient import rowwise_gradient
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import AdvantageEstimator, TaskData

NO_CORRECTION = 1e9
"""A penalty with which nothing is left of the correction of a critic for each task."""


def collect(module: CMAML, data: TaskDataModule, batches: int) -> list[tuple[Stage, Stage]]:
    """The stages before and after adaptation of the newest meta-policy to batches of training tasks.

    Raises:
        UserError: there are not so many training tasks.
    """
    tasks, size, theta = data.splits["train"], data.tasks_per_batch, module.actor.vector()
    if batches * size > len(tasks):
        raise UserError(f"--batches {batches} needs {batches * size} training tasks; the run has {len(tasks)}.")
    stages = []
    for i in range(batches):
        played = module.adapt(tasks[i * size : (i + 1) * size], module.inner.steps, ("meta-gradient", i), theta=theta)
        stages.append((played[0], played[-1]))
    return stages


def gradients(actor: Actor, stage: Stage, data: TaskData, worlds: Tensor | None = None) -> Tensor:
    """Gradients of E[ratio A_r] and E[ratio A_c] for each task, (2, tasks, P), from all worlds or those of a mask."""
    mask = 1.0 if worlds is None else worlds.repeat_interleave(data.action.shape[1] // len(worlds)).float()

    def gradient(advantage: Tensor) -> Tensor:
        return rowwise_gradient(lambda x: surrogate(actor, x, data, mask * advantage), stage.theta)[1]

    return torch.stack([gradient(data.reward_signal), gradient(data.cost_signal)])


def common(left: Tensor, right: Tensor) -> Tensor:
    """The mean product of the rows of different tasks, (2, tasks, P) each, relative to their lengths, (2,)."""
    tasks = left.shape[1]
    product = (left.sum(dim=1) * right.sum(dim=1)).sum(dim=-1) - (left * right).sum(dim=(1, 2))
    lengths = [side.square().sum(dim=2).mean(dim=1).sqrt() for side in (left, right)]
    return product / (tasks * (tasks - 1) * lengths[0] * lengths[1])


def measure(module: CMAML, stages: Sequence[tuple[Stage, Stage]], ridge: float, lmbda: float) -> tuple[Tensor, Tensor]:
    """The meta-gradients, (2, tasks, P), and the cosines between halves of the worlds, (2,)."""
    estimator: AdvantageEstimator = replace(module.estimator, ridge=ridge, lmbda=lmbda)
    outer, cosines = [], []
    for pre, post in stages:
        before, after = (estimator.task_data(stage.rollout, stage.data.cost_limit) for stage in (pre, post))
        outer.append(gradients(module.actor, post, after))
        worlds = torch.arange(pre.rollout.shape[1]) < pre.rollout.shape[1] // 2
        first, second = (gradients(module.actor, pre, before, half) for half in (worlds, ~worlds))
        cosines.append(torch.cosine_similarity(first, second, dim=2).mean(dim=1))
    return torch.cat(outer, dim=1), torch.stack(cosines).mean(dim=0)


def run(path: str, batches: int, ridges: Sequence[float], lambdas: Sequence[float]) -> Table:
    """Measure, and make the table."""
    table = Table(title="signal in the gradients of reward and cost")
    for name in ("ridge", "lambda", *(f"{of}, {what}" for of in ("common", "true", "halves") for what in ("r", "c"))):
        table.add_column(name, justify="right")
    module, data = load_run(path)
    with closing(module):
        stages = collect(module, data, batches)
    true, _ = measure(module, stages, NO_CORRECTION, 1.0)
    for ridge in ridges:
        for lmbda in lambdas:
            outer, halves = measure(module, stages, ridge, lmbda)
            cells = torch.cat([common(outer, outer), common(outer, true), halves])
            table.add_row(f"{ridge:g}", f"{lmbda:g}", *(f"{float(cell):.4f}" for cell in cells))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table; bad input ends with exit code 2 and one line."""
    parser = OneLineParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="a run folder or a checkpoint")
    parser.add_argument("--batches", type=count, default=4)
    parser.add_argument("--ridge", type=float, nargs="+", default=[0.03, 0.3, 3.0, 30.0, NO_CORRECTION])
    parser.add_argument("--gae-lambda", type=float, nargs="+", default=[0.95, 0.9, 0.8])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        table = run(options.run, options.batches, options.ridge, options.gae_lambda)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(2)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
