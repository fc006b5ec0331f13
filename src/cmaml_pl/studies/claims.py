"""From claims in words to what decides them, and to words again."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from cmaml_pl.evaluation.arms import arm_label
from cmaml_pl.evaluation.labels import find_label, steps_in_words
from cmaml_pl.evaluation.meta_test import LEARNED
from cmaml_pl.evaluation.parts import Part
from cmaml_pl.evaluation.report import Evaluation
from cmaml_pl.evaluation.rows import Row, by_arm_and_step
from cmaml_pl.evaluation.statistics import shared_tables
from cmaml_pl.evaluation.yardstick import Yardstick, linear_scores
from cmaml_pl.studies.definition import COLUMNS, HIGHER, LIMIT, META_POLICY, RANDOM, Claim, Study
from cmaml_pl.studies.inference import MOST_SEEDS, UNDECIDED, Sample, Verdict, judge


def judge_claims(study: Study, evaluation: Evaluation) -> list[Verdict]:
    """The verdicts on a study's claims; a trial decides nothing."""
    samples = [
        find_sample(claim, evaluation.parts, evaluation.rows, evaluation.yardstick, last=study.steps)
        for claim in study.claims
    ]
    verdicts = judge(samples)
    return [replace(each, verdict=UNDECIDED, seeds_needed=None) for each in verdicts] if study.trial else verdicts


def find_sample(
    claim: Claim, parts: Sequence[Part], rows: Sequence[Row], yardstick: Yardstick | None, *, last: int
) -> Sample:
    """The effects of seeds and tasks that decide a claim, paired where it is about two arms.

    The largest mean cost over the steps is that at the step where it is largest, for each arm its own. The step is
    chosen by the estimated means. To first order this choice does not change the variance.

    Args:
        claim: the claim.
        parts: what was measured.
        rows: lines of evaluation.csv.
        yardstick: of the score.
        last: number of adaptation steps of the study.
    """
    if claim.quantity == "score":  # without a yardstick nothing is known
        rows = linear_scores(rows, yardstick) if yardstick else []
    groups, column, step = by_arm_and_step(rows), COLUMNS[claim.quantity], last if claim.step is None else claim.step
    names = {arm_label(part.run.config): part.run for part in parts if part.start == LEARNED}

    def find(arm: str | None, at: int) -> list[Row]:
        if claim.quantity == "worst_cost":
            costs = [[float(row["cost"]) for row in groups.get((str(arm), k), [])] for k in range(at + 1)]
            at = int(np.argmax([fmean(each) if each else -math.inf for each in costs]))
        return groups.get((str(arm), at), [])

    ours = find(names[claim.arm].arm, step)
    theirs: list[Row]
    if claim.against == LIMIT:
        theirs = [{**row, column: row["cost_limit"]} for row in ours]
    elif claim.against == META_POLICY:
        theirs = find(names[claim.arm].arm, 0)
    elif claim.against == RANDOM:
        theirs = find(names[claim.arm].random_arm, step)
    elif isinstance(claim.against, str):
        theirs = find(names[claim.against].arm, step)
    else:
        theirs = [{**row, column: claim.against} for row in ours]
    mine, others = shared_tables([ours, theirs], column)
    if not mine.size:
        return Sample(np.zeros((0, 0)), claim.smallest_effect)
    effects = mine - others if claim.direction == HIGHER else others - mine
    return Sample(effects, claim.smallest_effect, bounded=claim.quantity == "over_limit")


def in_words(claim: Claim, *, last: int) -> str:
    """A claim as a sentence."""
    step = last if claim.step is None else claim.step
    when = steps_in_words(step)
    what = {
        "over_limit": f"share of tasks over their limit {when}",
        "worst_cost": f"largest mean cost over steps 0 to {step}",
        "critic_error": f"safety critic's error of a task's cost {when}",
    }.get(claim.quantity, f"{claim.quantity} {when}")
    other = {RANDOM: "that of a random start", META_POLICY: "before adaptation", LIMIT: "the limit"}.get(claim.against)
    if other is None:
        number = f"{claim.against:g}" if isinstance(claim.against, int | float) else None
        other = number or f"that of {find_label(claim.against)}"
    source = f" ({claim.source})" if claim.source else ""
    by = f", by more than {claim.smallest_effect:g}" if claim.smallest_effect else ""
    return f"{find_label(claim.arm)}: the {what} is {claim.direction} than {other}{source}{by}"


def verdict_in_words(verdict: Verdict, *, trial: bool) -> str:
    """A verdict, and what an undecided claim needs."""
    if verdict.verdict != UNDECIDED:
        return verdict.verdict
    if trial:
        return f"{UNDECIDED}: only a trial"
    if verdict.seeds == 0:
        return f"{UNDECIDED}: there are no numbers for it; a score needs its yardstick"
    if math.isnan(verdict.effect.value):
        return f"{UNDECIDED}: a number is not finite"
    if verdict.seeds < 2:
        return f"{UNDECIDED}: it needs several seeds"
    if verdict.seeds_needed is None:
        return f"{UNDECIDED}: up to {MOST_SEEDS} seeds would not decide it; it is too near, or the tasks are too few"
    return f"{UNDECIDED}: {verdict.seeds_needed} seeds in all would probably decide it"
