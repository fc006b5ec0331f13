"""Writes what studies have found: a page that opens from disk, the same tables as Markdown, and the data."""

import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path

from cmaml_pl.evaluation.labels import find_label
from cmaml_pl.evaluation.report import Evaluation
from cmaml_pl.files import in_one_move
from cmaml_pl.studies.course import find_courses
from cmaml_pl.studies.definition import Study
from cmaml_pl.studies.inference import FAILS, HOLDS, UNDECIDED, Verdict
from cmaml_pl.studies.page import render, render_contents, render_heading, render_page, render_picture, render_table
from cmaml_pl.studies.picture import draw_published, draw_verdicts
from cmaml_pl.studies.tables import Lines, arm_lines, published_lines, training_lines, verdict_lines, verdict_records

VERDICTS, PUBLISHED = "verdicts.png", "published.png"
TABLES = "tables.md"  # not a namesake of the page: the documentation's site makes NAME.html of NAME.md

TRIAL = "A trial of the pipeline at a small scale, which decides nothing: its numbers are not those of the study."

VERDICTS_NOTE = (
    "The effect is the mean difference in the direction of the claim, paired by seed and task. Its interval is the one "
    "that decides: each end is at the level at which Holm's procedure tests the claim among all of the study, 2.5 % in "
    "each direction for the whole study; where a few tasks cost most, it is longer on one side. A claim holds if the "
    "interval is above the smallest effect that matters, and does not hold if it is below. verdicts.csv has the p "
    "values, and the 95 % interval of each claim by itself."
)

PUBLISHED_NOTE = (
    "What is published was run by its authors, on test tasks of their own. Claims take its numbers as exact."
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
"""Pictures of an evaluation that follow the arms, each with its title."""


@dataclass(frozen=True)
class Section:
    """A picture, with what it shows, a table, with what it means, or both."""

    title: str
    picture: Path | None = None
    shown: str = ""
    lines: Lines = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Result:
    """A study, its evaluation, and the verdicts on its claims, in their order."""

    study: Study
    evaluation: Evaluation
    verdicts: list[Verdict]

    @cached_property
    def sections(self) -> list[Section]:
        """Of its report, in their order."""
        study, folder, summaries = self.study, self.evaluation.folder, self.evaluation.summaries
        courses = find_courses(self.evaluation)
        found = []
        if self.verdicts:
            words = f"Claims of the study {study.name}, with their effects"
            lines = verdict_lines(study, self.verdicts)
            found.append(Section("Claims", study.folder / VERDICTS, words, lines, VERDICTS_NOTE))
        if study.published:
            words = f"{find_label(summaries[0].method)} and what is published, in the study {study.name}"
            lines = published_lines(study, summaries)
            found.append(Section("Published", study.folder / PUBLISHED, words, lines, PUBLISHED_NOTE))
        found.append(Section("Arms", lines=arm_lines(summaries, courses), note=ARMS_NOTE))
        for name, title in OTHER_PICTURES.items():
            if (folder / name).exists():
                found.append(Section(title, folder / name, f"{title}, in the study {study.name}"))
        return [*found, Section("In meta-training", lines=training_lines(courses), note=TRAINING_NOTE)]


def write_result(result: Result) -> list[Path]:
    """Write report.html, TABLES and pictures to the study's folder, and verdicts.csv where there are claims."""
    study, folder = result.study, result.study.folder
    written = [folder / name for name in ("verdicts.csv", VERDICTS)] if result.verdicts else []
    if result.verdicts:
        with in_one_move(written[0]) as scratch, scratch.open("w", newline="", encoding="utf-8") as file:
            records = verdict_records(study, result.verdicts)
            writer = csv.DictWriter(file, fieldnames=list(records[0]))
            writer.writeheader()
            writer.writerows(records)
        with in_one_move(written[1], ".tmp.png") as scratch:
            draw_verdicts(study, result.verdicts, scratch)
    if study.published:
        written.append(folder / PUBLISHED)
        with in_one_move(written[-1], ".tmp.png") as scratch:
            draw_published(study, result.evaluation.summaries, scratch)
    page = render_page(study.name, [_section(result)])
    return [*written, _write(page, folder / "report.html"), _write(_markdown([result]), folder / TABLES)]


def write_index(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write all studies to FOLDER/index.html and FOLDER/TABLES, and the data of each to FOLDER/NAME."""
    for result in results:
        data = folder / result.study.name
        data.mkdir(parents=True, exist_ok=True)
        for path in sorted([*result.evaluation.folder.glob("*.csv"), *result.study.folder.glob("*.csv")]):
            shutil.copyfile(path, data / path.name)
    contents = [(result.study.name, f"{result.study.question} {_count(result)}".strip()) for result in results]
    sections = [render_heading(result.study.name) + _section(result) for result in results]
    page = render_page("Studies", [render_contents(contents), *sections])
    return [_write(page, folder / "index.html"), _write(_markdown(results), folder / TABLES)]


def _count(result: Result) -> str:
    """How many claims hold, and how many do not, in words."""
    if result.study.trial or not result.verdicts:
        return ""
    counts = Counter(verdict.verdict for verdict in result.verdicts)
    words = {HOLDS: "hold", FAILS: "do not hold", UNDECIDED: "are undecided"}
    return f"Of the claims {', '.join(f'{counts[each]} {words[each]}' for each in words if counts[each])}."


def _section(result: Result) -> str:
    """The part of a page that is about one study, as HTML."""
    study, folder = result.study, result.evaluation.folder
    parts = [render("p", TRIAL, "warning")] if study.trial else []
    parts += [render("p", study.question)] if study.question else []
    glance = [path for name in ("adaptation.png", "finetuning.png") if (path := folder / name).exists()]
    parts += [render_picture(path, f"Adaptation in the study {study.name}") for path in glance[:1]]
    for section in result.sections:
        parts += [render("h3", section.title)]
        parts += [render_picture(section.picture, section.shown)] if section.picture else []
        parts += [render_table(section.lines), render("p", section.note, "small")] if section.lines else []
    return "\n".join([*parts, render("h3", "Repeat it"), render("pre", study.command)])


def _markdown(results: Sequence[Result]) -> str:
    """The tables of studies, for a text of one's own."""
    parts = []
    for result in results:
        study = result.study
        parts += [f"# {study.name}", *([TRIAL] if study.trial else []), *([study.question] if study.question else [])]
        parts += [f"```\n{study.command}\n```"]
        for section in filter(attrgetter("lines"), result.sections):
            head, *rows = [f"| {' | '.join(line)} |" for line in section.lines]
            table = "\n".join([head, f"|{' --- |' * len(section.lines[0])}", *rows])
            parts += [f"## {section.title}", table, section.note]
    return "\n\n".join(parts) + "\n"


def _write(content: str, path: Path) -> Path:
    with in_one_move(path) as scratch:
        scratch.write_text(content, encoding="utf-8")
    return path
