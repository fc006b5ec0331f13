"""The meta-test: adapt on held-out tasks, step by step, from a learned and from a random initialisation."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import ListConfig
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cmaml_pl import config as configuration
from cmaml_pl.assembly import build_datamodule, open_module
from cmaml_pl.config import Config
from cmaml_pl.errors import UserError
from cmaml_pl.module import CMAML
from cmaml_pl.runs import open_run, restore

Row = dict[str, str | int | float]
"""A line of evaluation.csv: method, seed, task, step, env_steps, return, cost, cost_limit, violated."""


def evaluate_run(config: Config, checkpoint: Path, *, steps: int) -> list[Row]:
    """Adapt to every test task in `steps` steps, once from the checkpoint and once from the run's own first weights.

    The random initialisation is given the run's observation normaliser, multiplier and critics: it differs in the
    policy's weights alone, and both meet the same random numbers.

    Args:
        config: of the run.
        checkpoint: its checkpoint.
        steps: adaptation steps; the rows count from 0, the policy before adaptation.
    """
    with open_module(config) as module:
        starts = {"random": module.actor.vector()}
        restore(module, checkpoint)
        starts["c-maml"] = module.actor.vector()
        return [row for method, theta in starts.items() for row in _adapt_all(module, config, method, theta, steps)]


def _adapt_all(module: CMAML, config: Config, method: str, theta: Tensor, steps: int) -> list[Row]:
    rows: list[Row] = []
    for index, tasks in enumerate(build_datamodule(config).test_dataloader()):
        stages = module.adapt(tasks, steps, ("test", index), theta=theta)
        episode_steps = config.rollout.envs_per_task * config.rollout.horizon
        for k, stage in enumerate(stages):
            for p, task in enumerate(tasks):
                cost = stage.data.episode_cost[p].item()
                rows.append(
                    {
                        "method": method,
                        "seed": config.seed,
                        "task": task.id,
                        "step": k,
                        "env_steps": k * episode_steps,
                        "return": stage.data.episode_return[p].item(),
                        "cost": cost,
                        "cost_limit": task.cost_limit,
                        "violated": int(cost > task.cost_limit),
                    }
                )
    return rows


def evaluate_runs(overrides: Sequence[str], console: Console) -> None:
    """The verb: run=RUN_FOLDER or run=[FOLDER,...], steps=K; writes evaluation.csv into each and prints means."""
    request = configuration.parse_overrides(overrides)
    unknown = set(request) - {"run", "steps"}
    if unknown or not request.get("run"):
        raise UserError("evaluate takes run=RUN_FOLDER, or run=[FOLDER,...] for several seeds, and steps=K.")
    steps = request.get("steps")
    if steps is not None and (type(steps) is not int or steps < 1):
        raise UserError(f"steps is {steps!r}, but must be a whole number, at least 1.")
    paths = request.run if isinstance(request.run, ListConfig) else [request.run]
    rows: list[Row] = []
    for path in paths:
        config, folder = open_run(Path(str(path)))
        found = evaluate_run(config, folder.last_checkpoint, steps=steps or config.inner.steps)
        _write(found, folder.evaluation)
        console.print(f"{folder.evaluation}", soft_wrap=True)
        rows += found
    console.print(_table(rows))


def _write(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _table(rows: Sequence[Row]) -> Table:
    limit = torch.tensor([float(row["cost_limit"]) for row in rows]).mean().item()
    table = Table("initialisation", "step", "return", f"cost (limit {limit:g})", "tasks over limit", box=None)
    for method, step in sorted({(str(row["method"]), int(row["step"])) for row in rows}):
        chosen = [row for row in rows if row["method"] == method and row["step"] == step]
        mean = {name: sum(float(row[name]) for row in chosen) / len(chosen) for name in ("return", "cost", "violated")}
        table.add_row(
            method, str(step), f"{mean['return']:.3f}", f"{mean['cost']:.2f}", f"{100 * mean['violated']:.0f} %"
        )
    return table
