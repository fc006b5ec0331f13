"""What arms are called in figures, which colour they have, and which of them are drawn where not all can be."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cmaml_pl.evaluation.meta_test import RANDOM

MOST_DRAWN = 5
"""More curves in a panel are not told apart at a glance."""

FIRST = ("cmaml", "oracle", RANDOM)
"""The arms that a figure needs most."""

KNOWN = {
    "cmaml": ("C-MAML", "tab:blue"),
    "oracle": ("oracle (sees the task)", "black"),
    RANDOM: ("random start", "tab:gray"),
    "maml": ("MAML (no limit)", "tab:orange"),
    "pretrain": ("pretraining", "tab:purple"),
    "eta_off": ("C-MAML without eta", "tab:cyan"),
    "cmaml_cpo": ("C-MAML, CPO inside", "tab:green"),
    "cmaml_printed": ("C-MAML as printed", "tab:pink"),
    "cmaml_reptile": ("C-MAML, Reptile outside", "tab:olive"),
    "maml_penalty": ("MAML, fixed penalty", "tab:brown"),
    "safemeta": ("SafeMeta", "teal"),
    "meta_cpo": ("Meta-CPO", "darkkhaki"),
    "meta_srl": ("Meta-SRL", "slateblue"),
    "cmaml_focops": ("C-MAML, FOCOPS inside", "limegreen"),
    "cmaml_mixture": ("C-MAML, mixed in as it proves safe", "steelblue"),
    "reptile_p3o": ("Reptile, P3O inside", "magenta"),
    "maml_ppo_lag": ("MAML-PPO-Lagrangian", "sienna"),
}
"""Words and colour of an arm."""

OTHER_COLOURS = ("goldenrod", "navy", "darkcyan", "yellowgreen", "indigo")
"""For arms without a colour of their own; red is the limit's."""

WORDS = {
    "fomaml": "first-order MAML",
    "fomaml_trpo": "first-order MAML with TRPO",
    "maml": "second-order MAML",
    "reptile": "Reptile",
    "pooled": "pretraining",
    "trpo_lag": "TRPO-Lagrangian",
    "cpo": "CPO",
    "pcpo": "PCPO",
    "crpo": "CRPO",
    "focops": "FOCOPS",
    "p3o": "P3O",
    "ppo_lag": "PPO-Lagrangian",
    "trpo": "TRPO",
    "safemeta": "SafeMeta",
    "meta_cpo": "Meta-CPO",
    "meta_srl": "Meta-SRL",
    "eta_off": "eta off",
    "inner.method=trpo_lag": "TRPO-Lagrangian inside",
    "inner.method=cpo": "CPO inside",
    "inner.method=pcpo": "PCPO inside",
    "inner.method=crpo": "CRPO inside",
    "inner.method=focops": "FOCOPS inside",
    "inner.method=p3o": "P3O inside",
    "inner.method=ppo_lag": "PPO-Lagrangian inside",
    "inner.method=safemeta": "SafeMeta inside",
    "inner.method=trpo": "no limit inside",
    "deployment.method=adapted": "adapted policy deployed",
    "deployment.method=mixture": "mixed in as it proves safe",
    "deployment.checkpoint=last": "last checkpoint",
    "deployment.checkpoint=best": "best validated checkpoint",
    "tasks.observe_task=True": "sees the task",
    "tasks.observe_task=False": "does not see the task",
}
"""Of the parts that arms without a name of their own are called by, and of keys that tell arms apart."""


@dataclass(frozen=True)
class Look:
    """How an arm looks in every figure of an evaluation."""

    label: str
    colour: str


PREFIXES = {
    "tasks.conflict": "conflict",
    "inner.multiplier_init": "lambda from",
    "inner.multiplier_kp": "proportional term",
    "exploration.std": "context noise",
    "outer.radius_lr": "lengths learned at",
}
"""Words of a key that stand before its value."""


def find_looks(methods: Sequence[str]) -> dict[str, Look]:
    """The look of each arm, those that a figure needs most first.

    Arms of conf/arm have the same colour in all evaluations. Several of one name ("random inner.method=cpo") are told
    apart by words, and all but the first get another colour, which their name decides as far as it is free.
    """
    looks: dict[str, Look] = {}
    for method in sorted(methods, key=lambda method: _need(method, methods)):
        taken = {look.colour for look in looks.values()}
        own = KNOWN.get(method.split()[0], ("", ""))[1]
        start = zlib.crc32(method.encode()) % len(OTHER_COLOURS)
        others = [*OTHER_COLOURS[start:], *OTHER_COLOURS[:start]]
        free = [colour for colour in (own, *others) if colour and colour not in taken]
        looks[method] = Look(find_label(method), free[0] if free else others[0])
    return looks


def find_label(method: str) -> str:
    """An arm in words: "random inner.method=cpo" is a random start, CPO inside."""
    name, *keys = method.split()
    known, _, more = name.partition("-")
    if more and known in KNOWN and known != RANDOM:  # a label of a study
        words = [find_label(known), more.replace("-", " ")]
    else:
        words = [KNOWN.get(name, ("", ""))[0] or " + ".join(WORDS.get(part, part) for part in name.split("+"))]
    return ", ".join([*words, *filter(None, map(_in_words, keys))])


def _in_words(setting: str) -> str:
    """A key=value that tells arms apart, as the labels of the studies say it where they do; "" for a key not there."""
    key, _, value = setting.partition("=")
    if key == "train.distinct_tasks":
        return {"None": "all tasks", "1": "1 task"}.get(value, f"{value} tasks")
    if key in PREFIXES:
        return "" if value == "None" else f"{PREFIXES[key]} {value}"
    return WORDS.get(setting, setting)


def steps_in_words(step: int) -> str:
    """How often a policy has adapted, in words."""
    return "before adaptation" if step == 0 else f"after {step} step{'s' if step > 1 else ''}"


def choose(methods: Sequence[str]) -> tuple[dict[str, Look], dict[str, Look]]:
    """The arms that a panel has room for, and those that are left to the tables."""
    looks = list(find_looks(methods).items())
    return dict(looks[:MOST_DRAWN]), dict(looks[MOST_DRAWN:])


def _need(method: str, methods: Sequence[str]) -> tuple[int, int]:
    """The least is needed most: C-MAML and what it is measured by, then the others in their order, which is the user's.

    Of the random starts all but the first come last.
    """
    name, place = method.split()[0], methods.index(method)
    if name == RANDOM and any(other.split()[0] == RANDOM for other in methods[:place]):
        return len(FIRST) + 1, place
    return FIRST.index(name) if name in FIRST else len(FIRST), place
