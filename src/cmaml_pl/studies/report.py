"""Writes what a study has found: its verdicts as CSV and Markdown, and a page that opens from disk."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cmaml_pl.evaluation.report import Evaluation
from cmaml_pl.files import in_one_move
from cmaml_pl.studies.definition import Study
from cmaml_pl.studies.inference import Verdict
from cmaml_pl.studies.page import render, render_page, render_picture, render_table
from cmaml_pl.studies.picture import draw_verdicts
from cmaml_pl.studies.tables import Lines, arm_lines, training_lines, verdict_lines, verdict_records

VERDICTS = "verdicts.png"

TRIAL = "A trial of the pipeline at a small scale, which decides nothing: its numbers are not those of the study."

VERDICTS_NOTE = (
    "The effect is the mean difference in the direction of the claim, paired by seed and task. Its interval is the one "
    "that decides: each end is at the level at which Holm's procedure tests the claim among all of the study, 2.5 % in "
    "each direction for the whole study. A claim holds if the interval is above the smallest effect that matters, and "
    "does not hold if it is below. verdicts.csv has the p values, and the 95 % interval of each claim by itself."
)

ARMS_NOTE = (
    "Means with 95 % intervals over seeds and held-out tasks. Step 0 is before adaptation. The largest mean cost is "
    "over all steps. The critic's error is the difference between the mean cost of an episode of a task and what the "
    "safety critic predicts of it. Training: steps and seconds of one seed, without validation."
)

TRAINING_NOTE = (
    "The newest meta-policy on each meta-batch of training tasks, before adaptation, and the policies that it adapts "
    "to. Means over seeds; in brackets the smallest and the largest of a seed."
)

OTHER_PICTURES = {
    "scatter.png": "Return against cost",
    "video.gif": "The same task before and after adaptation",
}
"""Pictures of an evaluation that follow the tables, each with its title."""


@dataclass(frozen=True)
class Result:
    """A study, its evaluation, and the verdicts on its claims, in their order."""

    study: Study
    evaluation: Evaluation
    verdicts: list[Verdict]


def write_result(result: Result) -> list[Path]:
    """Write report.html and, where there are claims, VERDICTS and verdicts.{csv,md} to the study's folder."""
    study, folder = result.study, result.study.folder
    written = [folder / name for name in ("verdicts.csv", "verdicts.md", VERDICTS)] if result.verdicts else []
    if result.verdicts:
        with in_one_move(written[0]) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
            records = verdict_records(study, result.verdicts)
            writer = csv.DictWriter(file, fieldnames=list(records[0]))
            writer.writeheader()
            writer.writerows(records)
        trial = f"{TRIAL}\n\n" if study.trial else ""
        table = _markdown(verdict_lines(study, result.verdicts))
        _write(f"# {study.name}\n\n{trial}{table}\n\n{VERDICTS_NOTE}\n", written[1])
        with in_one_move(written[2], ".tmp.png") as scratch:
            draw_verdicts(study, result.verdicts, scratch)
    return [*written, _write(render_page(study.name, [_section(result)]), folder / "report.html")]


def write_index(results: Sequence[Result], folder: Path) -> Path:
    """Write one page with all studies to FOLDER/index.html."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [render("h2", result.study.name) + _section(result) for result in results]
    return _write(render_page("Studies", sections), folder / "index.html")


def _section(result: Result) -> str:
    """The part of a page that is about one study, as HTML."""
    study, folder = result.study, result.evaluation.folder
    pictures = [path for name in ("adaptation.png", "finetuning.png") if (path := folder / name).exists()]
    others = [(folder / name, words) for name, words in OTHER_PICTURES.items() if (folder / name).exists()]
    parts = [
        *([render("p", TRIAL, "warning")] if study.trial else []),
        *([render("p", study.question)] if study.question else []),
        *(render_picture(path, f"Adaptation in the study {study.name}") for path in pictures[:1]),
    ]
    if result.verdicts:
        picture = render_picture(study.folder / VERDICTS, f"Claims of the study {study.name}, with their effects")
        table = render_table(verdict_lines(study, result.verdicts))
        parts += [render("h3", "Claims"), picture, table, render("p", VERDICTS_NOTE, "small")]
    parts += [render("h3", "Arms"), render_table(arm_lines(result.evaluation)), render("p", ARMS_NOTE, "small")]
    for path, words in others:
        parts += [render("h3", words), render_picture(path, f"{words}, in the study {study.name}")]
    parts += [render("h3", "In meta-training"), render_table(training_lines(result.evaluation))]
    parts += [render("p", TRAINING_NOTE, "small")]
    return "\n".join([*parts, render("h3", "Repeat it"), render("pre", study.command)])


def _markdown(lines: Lines) -> str:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], f"| {' | '.join('---' for _ in lines[0])} |", *rows[1:]])


def _write(content: str, path: Path) -> Path:
    with in_one_move(path) as scratch:
        scratch.write_text(content, encoding="utf-8")
    return path
