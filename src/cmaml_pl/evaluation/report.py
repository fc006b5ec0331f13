"""Runs the meta-test of one or several runs, and writes tables, figures and a video to one folder."""

import csv
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.arms import Run, open_runs
from cmaml_pl.evaluation.figures import plot_finetuning, plot_scatter
from cmaml_pl.evaluation.meta_test import RANDOM
from cmaml_pl.evaluation.parts import Part, list_parts, measure_all
from cmaml_pl.evaluation.paths import plot_adaptation, plot_trajectories
from cmaml_pl.evaluation.rows import Row
from cmaml_pl.evaluation.statistics import Comparison, Estimate, Summary, compare, summarise
from cmaml_pl.evaluation.tables import comparison_table, summary_table
from cmaml_pl.evaluation.traces import Trace
from cmaml_pl.evaluation.yardstick import NoYardstickError, Yardstick, estimate_scores, find_yardstick, with_scores
from cmaml_pl.runs.checkpoints import load_checkpoint

REQUEST_FILE = "evaluation.yaml"
"""What was asked for, in the folder of an evaluation of several runs."""
RESULT_FILES = (
    *("evaluation.csv", "summary.csv", "comparison.csv"),
    *("adaptation.png", "finetuning.png", "scatter.png", "trajectories.png", "video.gif"),
)
"""What an evaluation leaves."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation has found.

    Attributes:
        folder: with the results.
        parts: what was measured.
        rows: lines of evaluation.csv.
        yardstick: what scores are measured by; None where there is nothing.
        summaries: lines of summary.csv.
    """

    folder: Path
    parts: list[Part]
    rows: list[Row]
    yardstick: Yardstick | None
    summaries: list[Summary]


def evaluate_runs(
    paths: Sequence[Path],
    *,
    steps: int | None,
    out: Path | None,
    console: Console,
    split: str = "test",
    deployment: Sequence[str] = (),
    overwrite: bool = False,
    jobs: int = 1,
) -> Evaluation:
    """Adapt every arm on the same tasks, and write the results.

    Runs with the same method and different seeds are one arm. Measurements are kept in the folder of their run, so that
    repeating the command, or giving it more runs, measures only what is missing.

    Args:
        paths: run folders.
        steps: number of adaptation steps; None takes the largest number that any of the runs has in meta-training.
        out: folder of the results; None takes the run folder for one run, and for several runs the folder
            `evaluations/NAME` beside the first run folder. On validation tasks, one run has a folder there as well.
        console: prints progress and tables.
        split: which tasks, one of MEASURED.
        deployment: overrides in the section `deployment`; with some, each run is measured in that way as well.
        overwrite: whether the results of another evaluation in `out` are replaced.
        jobs: how many measurements are made at once.

    Returns:
        The results; their folder has evaluation.csv, summary.csv, comparison.csv where there are several arms,
        finetuning.png, scatter.png, trajectories.png, adaptation.png and, where it can be drawn, video.gif.
    """
    runs = open_runs(paths, deployment)
    trained = runs[: len(paths)]
    steps = steps or max(run.config.inner.steps for run in runs)
    for run in trained:
        done, total = load_checkpoint(run.folder.last_checkpoint).iterations, run.config.train.meta_iterations
        if done < total:
            console.print(f"{run.folder.path} has only done {done} of its {total} meta-iterations.", soft_wrap=True)
    folder = _prepare_folder(trained, steps, out, split, deployment, overwrite=overwrite)
    parts = list_parts(runs)
    rows, traces = measure_all(parts, steps, split, console, jobs=jobs)
    yardstick, missing = _find_yardstick(parts, rows)
    summaries = summarise(rows, estimate_scores(rows, yardstick) if yardstick else {})
    comparisons = compare(rows)
    discount = runs[0].config.inner.cost_limit_discount
    _write_files(folder, with_scores(rows, yardstick), summaries, comparisons, traces, discount=discount)
    no_video = _write_video(parts[0].run, traces[parts[0].method], folder / "video.gif")
    missing += [f"no video: {no_video}"] if no_video else []
    tables = [summary_table(summaries, yardstick), *([comparison_table(comparisons)] if comparisons else [])]
    if not console.is_terminal:
        console.width = max(console.width, 140)  # a file has no width to keep to
    for table in tables:
        console.print(table)
    found = [str(folder / name) for name in RESULT_FILES if (folder / name).exists()]
    for line in [*found, *missing]:
        console.print(escape(f"  {line}"), soft_wrap=True)
    return Evaluation(folder, parts, rows, yardstick, summaries)


def _find_yardstick(parts: Sequence[Part], rows: Sequence[Row]) -> tuple[Yardstick | None, list[str]]:
    """What scores are measured by; where there is nothing, a line that says why."""
    if len({getattr(part.run.config.tasks, "conflict", None) for part in parts}) > 1:
        return None, ["no score: the runs differ in tasks.conflict, and with it in what costs"]
    oracles = {part.method for part in parts if part.run.is_oracle}
    random = next((part.method for part in parts if part.start == RANDOM), None)
    try:
        return find_yardstick(rows, oracles=oracles, random=random), []
    except NoYardstickError as reason:
        return None, [f"no score: {reason}"]


def _prepare_folder(
    runs: Sequence[Run],
    steps: int,
    out: Path | None,
    split: str,
    deployment: Sequence[str] = (),
    *,
    overwrite: bool = False,
) -> Path:
    """The folder of the results, made if needed.

    Raises:
        UserError: the folder holds something else than the results of the same request.
    """
    homes = [run.folder.path.resolve() for run in runs]
    if len(runs) == 1 and split == "test" and not deployment and (out is None or out.resolve() == homes[0]):
        return runs[0].folder.path
    ending = "-".join(
        [f"{steps}steps", *([] if split == "test" else [split]), *(re.sub(r"\W+", "_", key) for key in deployment)]
    )
    folder = out or runs[0].folder.path.parent / "evaluations" / f"{_join([home.name for home in homes])}-{ending}"
    asked = {"runs": [os.path.relpath(home, folder.resolve()) for home in homes], "steps": steps}
    request = OmegaConf.create(
        asked | ({} if split == "test" else {"split": split}) | ({"deployment": list(deployment)} if deployment else {})
    )
    stored = folder / REQUEST_FILE
    known = stored.is_file() and (overwrite or OmegaConf.load(stored) == request)
    if folder.exists() and any(folder.iterdir()) and not known:
        raise UserError(f"{folder} holds something else and is not overwritten: choose another one, out=FOLDER.")
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(request, stored)
    return folder


def _join(names: Sequence[str]) -> str:
    """All names joined by "+"; if this is too long for a folder's name, the first one with a checksum of all."""
    joined = "+".join(names)
    return joined if len(joined) <= 80 else f"{names[0]}+{len(names) - 1}more-{zlib.crc32(joined.encode()):08x}"


def _write_files(
    folder: Path,
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    comparisons: Sequence[Comparison],
    traces: Mapping[str, Sequence[Trace]],
    *,
    discount: float,
) -> None:
    _write_csv(rows, folder / "evaluation.csv")
    _write_csv([_flat(summary) for summary in summaries], folder / "summary.csv")
    (folder / "comparison.csv").unlink(missing_ok=True)
    if comparisons:
        _write_csv([_flat(comparison) for comparison in comparisons], folder / "comparison.csv")
    plot_finetuning(summaries, folder / "finetuning.png", discount=discount)
    plot_scatter(rows, summaries, folder / "scatter.png", discount=discount)
    if all(traces.values()):
        plot_trajectories(traces, folder / "trajectories.png")
        plot_adaptation(rows, summaries, traces, folder / "adaptation.png", discount=discount)


def _write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _flat(summary: Summary | Comparison) -> dict[str, Any]:
    """A line of a file: an estimate takes three columns, NAME, NAME_low and NAME_high."""
    line: dict[str, Any] = {}
    for field in fields(summary):
        value = getattr(summary, field.name)
        name = "return" if field.name == "returns" else field.name
        line |= (
            {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            if isinstance(value, Estimate)
            else {name: value}
        )
    return line


def _write_video(run: Run, traces: Sequence[Trace], path: Path) -> str | None:
    """Write a video of one task, before and after adaptation. Return None, or the reason why there is no video."""
    path.unlink(missing_ok=True)
    if not traces:
        return "the environment has no positions; for the same reason there are no pictures of paths"
    shown = sorted((trace for trace in traces if trace.geometry is not None), key=lambda trace: trace.step)
    if not shown:
        return "these worlds are no MuJoCo models that run in this process"
    # imported here, because MuJoCo and Safety-Gymnasium take seconds to import and nav2d does not need them
    from cmaml_pl.envs.drawing import NoRendererError
    from cmaml_pl.envs.engine import EngineEnv
    from cmaml_pl.evaluation.video import write_video

    env = run.config.tasks.make_env(1, 1, horizon=run.config.rollout.horizon, workers=1)
    assert isinstance(env, EngineEnv), "only its worlds have a geometry"
    try:
        write_video(env, [shown[0], shown[-1]], path)
    except NoRendererError as error:
        return str(error)
    return None
