"""The tables of a study's report: its verdicts, and what all arms did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from cmaml_pl.evaluation.labels import find_label
from cmaml_pl.evaluation.statistics import Summary
from cmaml_pl.studies.claims import in_words, verdict_in_words
from cmaml_pl.studies.course import EARLY, LATE, Course
from cmaml_pl.studies.definition import Study
from cmaml_pl.studies.inference import Verdict

Lines = list[list[str]]
"""Of a table, the first with the names of the columns."""

SHOWN_STEPS = (0, 1, 3, 10)
"""Adaptation steps in the table of arms, beside the last."""


def verdict_lines(study: Study, verdicts: Sequence[Verdict]) -> Lines:
    """A line for each claim."""
    lines = [["claim", "effect", "smallest that matters", "seeds", "verdict"]]
    for claim, verdict in zip(study.claims, verdicts, strict=True):
        words = verdict_in_words(verdict, trial=study.trial)
        effect, smallest = verdict.effect.text(), f"{claim.smallest_effect:g}"
        lines.append([in_words(claim, last=study.steps), effect, smallest, str(verdict.seeds), words])
    return lines


def verdict_records(study: Study, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """A line of verdicts.csv for each claim: the claim's keys, its effect with both intervals, and what was decided."""
    return [
        {
            "claim": in_words(claim, last=study.steps),
            **asdict(claim),
            "effect": verdict.effect.value,
            "low": verdict.effect.low,
            "high": verdict.effect.high,
            "low_95": verdict.plain.low,
            "high_95": verdict.plain.high,
            "p_holds": verdict.p_holds,
            "p_does_not_hold": verdict.p_fails,
            "seeds": verdict.seeds,
            "seeds_needed": verdict.seeds_needed,
            "verdict": verdict.verdict,
            "trial": study.trial,
        }
        for claim, verdict in zip(study.claims, verdicts, strict=True)
    ]


def arm_lines(summaries: Sequence[Summary], courses: Mapping[str, Sequence[Course]]) -> Lines:
    """A line for each arm: return and cost after some steps, the largest mean cost, and what its training took."""
    found = {(summary.method, summary.step): summary for summary in summaries}
    last = max(step for _, step in found)
    steps = sorted({*(step for step in SHOWN_STEPS if step <= last), last})
    limit = f"{summaries[0].cost_limit:.4g}"
    head = ["arm", *(f"{what} at step {step}" for what in ("return", "cost") for step in steps)]
    head += [f"largest mean cost (limit {limit})", f"tasks over limit at step {last}, %"]
    head += ["critic's error of the cost at step 0", "seeds", "training"]
    lines = [head]
    for method in dict.fromkeys(method for method, _ in found):
        arm: list[Summary] = [found[method, step] for step in steps]
        returns, costs = ([getattr(each, name).text() for each in arm] for name in ("returns", "cost"))
        over = arm[-1].violation_rate.text(100)
        end = [f"{arm[-1].anytime_cost:.3g}", over, arm[0].critic_error.text()]
        end += [str(arm[-1].seeds), _effort_in_words(courses.get(method, []))]
        lines.append([find_label(method), *returns, *costs, *end])
    return lines


def published_lines(study: Study, summaries: Sequence[Summary]) -> Lines:
    """The returns of all arms, and of what is published, after the numbers of steps that something is published for."""
    steps = sorted({step for each in study.published for step in each.up_to(study.steps)})
    found = {(summary.method, summary.step): summary.returns.text() for summary in summaries}
    arms = dict.fromkeys(method for method, _ in found)
    ours = [[find_label(method), *(found[method, step] for step in steps)] for method in arms]
    theirs = [
        [f"{find_label(each.method)} ({each.source})"]
        + [f"{each.returns[step]:g}" if step in each.returns else "" for step in steps]
        for each in study.published
    ]
    return [["method", *(f"return at step {step}" for step in steps)], *ours, *theirs]


def training_lines(courses: Mapping[str, Sequence[Course]]) -> Lines:
    """A line for each trained arm: what its newest meta-policies did in meta-training, over its seeds."""
    lines = [
        [
            "arm",
            "meta-iterations",
            *(f"{what} {when} adaptation, last {LATE}" for what in ("return", "cost") for when in ("before", "after")),
            f"over the limit, after the {EARLY}th",
            "eta at the end",
            "eta at its cap, % of the meta-iterations",
        ]
    ]
    for arm, runs in courses.items():
        cells = [
            _over_seeds([getattr(course, name) for course in runs])
            for name in ("iterations", "return_before", "return_after", "cost_before", "cost_after")
        ]
        over = f"{sum(course.over for course in runs)} of {sum(course.counted for course in runs)}"
        eta, at_cap = ([getattr(course, name) for course in runs] for name in ("eta", "at_cap"))
        lines.append([find_label(arm), *cells, over, _over_seeds(eta), _over_seeds([100 * share for share in at_cap])])
    return lines


def _over_seeds(values: Sequence[float]) -> str:
    """Their mean, and the range where they differ."""
    mean, low, high = fmean(values), min(values), max(values)
    if math.isnan(mean):
        return "unknown"
    return f"{mean:.3g}" if low == high else f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def _effort_in_words(courses: Sequence[Course]) -> str:
    """Environment steps and time of a training, the means over seeds."""
    if not courses:
        return "none"
    steps, seconds = (fmean(getattr(course, name) for course in courses) for name in ("env_steps", "seconds"))
    return f"{steps:,.0f} steps, {seconds:.0f} s"
