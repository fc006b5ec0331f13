"""Runs studies: trains what is missing, evaluates, decides the claims, and writes the reports."""

import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.configuration.schema import Config
from cmaml_pl.cores import find_jobs
from cmaml_pl.distributed.slurm import find_requeue_signal, requeue_slurm_job
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.evaluation.report import evaluate_runs
from cmaml_pl.studies.claims import in_words, judge_claims, verdict_in_words
from cmaml_pl.studies.definition import Study
from cmaml_pl.studies.loading import QUICK, load_studies
from cmaml_pl.studies.report import Result, write_index, write_result
from cmaml_pl.studies.stops import StopRequest, stopping_at_requeue_signal
from cmaml_pl.studies.training import list_trainings, run_folder, train_all

KEYS = ("study", "exp", "arms", "seeds", "steps", "jobs", "part", "out", "scale", "quiet")
"""Of a command; all other keys are those of the trainings."""


def run_studies(overrides: Sequence[str], console: Console) -> None:
    """Run the studies that a command asks for, one after the other.

    Exits with code 1 if a training failed, and with 128 + the signal's number if a signal stopped the study. SLURM's
    signal that the job's time is nearly over also requeues the job.

    Args:
        overrides: key=value; those whose key is not in KEYS are for all trainings.
        console: for progress.

    Raises:
        UserError: the request is wrong; nothing was started.
    """
    request, others = _split(overrides)
    jobs, part, out = (request[key] for key in ("jobs", "part", "out"))
    share = None if part is None else _parse_part(str(part))
    studies = load_studies(request, others)
    console = Console(quiet=True) if request["quiet"] else console
    with stopping_at_requeue_signal():
        try:
            results = [_run(study, jobs, share, console) for study in studies]
        except StopRequest as stop:
            print(f"Stopped by {stop.number.name}. The same command goes on.", file=sys.stderr)
            if stop.number == find_requeue_signal() and (refusal := requeue_slurm_job()):
                print(f"SLURM does not requeue the job: {refusal}", file=sys.stderr)
            sys.exit(128 + stop.number)
    complete = [result for result in results if isinstance(result, Result)]
    if complete and (len(studies) > 1 or out):
        for path in write_index(complete, Path(str(out or "report"))):
            console.print(f"  {path}", soft_wrap=True)
    if False in results:
        sys.exit(1)


def _split(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of KEYS, and the overrides for the trainings."""
    others = [item for item in overrides if item.partition("=")[0] not in KEYS]
    for item in others:
        for section in map(str, parse_overrides([item])):
            if section not in {field.name for field in fields(Config)}:
                key, hint = item.partition("=")[0], did_you_mean(section, KEYS)
                raise UserError(f"study has no key {key}.{hint} It takes {', '.join(KEYS)}.")
    given = parse_overrides([item for item in overrides if item not in others])
    request = {key: find_value(given, key) for key in KEYS}
    request["jobs"] = find_jobs(request["jobs"])
    for key, choices in (("scale", (None, QUICK)), ("quiet", (None, True, False))):
        if request[key] not in choices:
            raise UserError(f"{key} is {request[key]!r}, but must be {' or '.join(map(str, choices[1:]))}.")
    return request, others


def _run(study: Study, jobs: int, share: tuple[int, int] | None, console: Console) -> Result | bool:
    """Run one study. The result; or only whether all trainings succeeded, where it is not evaluated."""
    part = slice(None) if share is None else slice(share[0] - 1, None, share[1])
    at_once = min(jobs, len(list_trainings(study, jobs=jobs)[part]))
    trainings = list_trainings(study, jobs=at_once)
    mine = trainings[part]
    which = "" if share is None else f"; part {share[0]} of {share[1]}, {len(mine)} runs"
    console.print(
        f"{study.name}: {len(study.arms)} arms, {len(study.seeds)} seeds{which}, {at_once} at once: {study.folder}",
        soft_wrap=True,
    )
    if study.left_out:
        console.print(f"  claims left out, about other arms or later steps: {study.left_out}")
    failures = train_all(study, mine, jobs=at_once, console=console)
    if failures:
        missing = ", ".join(training.run_id for training in failures)
        message = f"{len(failures)} of {len(mine)} runs failed: {missing}. The same command tries them again."
        print(f"{study.name} is not evaluated. {message}", file=sys.stderr)
    if failures or share is not None:
        return not failures
    paths = [run_folder(study, training).path for training in trainings]
    evaluation = evaluate_runs(
        paths, steps=study.steps, out=study.folder / "evaluation", console=console, overwrite=True, jobs=jobs
    )
    result = Result(study, evaluation, judge_claims(study, evaluation))
    for claim, verdict in zip(study.claims, result.verdicts, strict=True):
        words = f"{in_words(claim, last=study.steps)}: {verdict_in_words(verdict, trial=study.trial)}"
        console.print(f"  {escape(words)}", soft_wrap=True)
    for path in write_result(result):
        console.print(f"  {path}", soft_wrap=True)
    return result


def _parse_part(part: str) -> tuple[int, int]:
    """(I, N) of "I/N"."""
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"part is {part!r}, but must be I/N: the share I, from 1 to N, of N.")
    return int(found[1]), int(found[2])
