"""Groups runs into arms and names the arms. An arm is one method, with all its seeds; arms are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cmaml_pl.configuration.loading import load_stored
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.meta_test import RANDOM
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.start import open_run

COMPARED_ALIKE = ("tasks.", "rollout.horizon", "inner.cost_limit")
"""Beginnings of the keys in which compared runs must agree: they decide what is measured, and in which unit."""

SEES_THE_TASK = "tasks.observe_task"
"""The key among them in which they may differ: it makes an oracle, by which the others are measured."""

CONFLICT = "tasks.conflict"
"""A key among them in which they may differ where it is set: its tasks are the same but for the hazard that costs."""

PREFERRED = "cmaml"
"""The arm whose runs give a random initialisation what it needs beside its weights, where it is among the runs."""

FREE_WITHIN_AN_ARM = (
    *("exp", "seed", "quiet", "run.", "logger.", "trainer."),
    *("train.validate_every", "train.max_dropped", "rollout.workers"),
)
"""Beginnings of the keys in which runs of one arm may differ."""

ADAPTATION_KEYS = (
    "inner.",
    "policy.",
    "exploration.",
    "critic.",
    "rollout.envs_per_task",
    "train.tasks_per_batch",
    "train.distinct_tasks",
    CONFLICT,
)
"""Keys on which the arm of the random initialisation depends.

How its policy looks, how it adapts, how the critics that it is given were made, which random numbers it meets, and what
costs.
"""

META_TRAINING_ALONE = ("inner.steps", "inner.multiplier_carry", "exploration.informed")
"""Keys with a beginning in ADAPTATION_KEYS that only meta-training uses."""


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        config: its configuration.
        folder: its files.
        arm: name of its method among the runs that it was opened with.
        random_arm: name of the arm of its random initialisation; None for an oracle, whose start sees the task as well
            and is no baseline.
    """

    config: Config
    folder: RunFolder
    arm: str
    random_arm: str | None

    @property
    def is_oracle(self) -> bool:
        """Whether it observes what is hidden of a task."""
        return self.config.tasks.observe_task

    @property
    def order(self) -> tuple[bool, str, int]:
        """Its place among runs whatever the order in which they are named: those of the preferred arm come first."""
        return self.arm.split()[0] != PREFERRED, self.arm, self.config.seed


def open_runs(paths: Sequence[Path], deployment: Sequence[str] = ()) -> list[Run]:
    """The runs in the folders `paths`, which are to be compared, with the names of their arms.

    Args:
        paths: run folders.
        deployment: overrides in the section `deployment`. With some, each run is there once more, at the end, deployed
            in that way, unless that is its own.

    Raises:
        UserError: a folder holds no run, a run is called as the random start is, two runs cannot be compared, or two
            runs have the same method and seed; or the overrides do not fit, or change nothing.
    """
    opened = [open_run(path) for path in paths]
    if deployment:
        others = [
            replace(config, deployment=load_stored(folder.config, deployment).deployment) for config, folder in opened
        ]
        changed = [i for i, other in enumerate(others) if other != opened[i][0]]
        if not changed:
            raise UserError(f"The runs are deployed by {' '.join(deployment)} as they are: leave that out.")
        opened, paths = opened + [(others[i], opened[i][1]) for i in changed], [*paths, *(paths[i] for i in changed)]
    configs = [config for config, _ in opened]
    for config, path in zip(configs, paths, strict=True):
        if arm_label(config) == RANDOM:
            raise UserError(f"{path} is called {RANDOM}, as the random start is: change run.label in its config.yaml.")
    check_alike(configs, paths)
    arms = distinguish([arm_label(config) for config in configs], [_method(config) for config in configs])
    adaptations = [_adaptation(config) for config in configs]
    blind = [i for i, config in enumerate(configs) if not config.tasks.observe_task]
    random_arms = dict(
        zip(blind, distinguish([RANDOM] * len(blind), [adaptations[i] for i in blind]), strict=True),
    )
    runs = [
        Run(config, folder, arm, random_arms.get(i))
        for i, ((config, folder), arm) in enumerate(zip(opened, arms, strict=True))
    ]
    seen: dict[tuple[str, int], Path] = {}
    for run, path in zip(runs, paths, strict=True):
        key = (run.arm, run.config.seed)
        if key in seen:
            raise UserError(f"{seen[key]} and {path} are the same method with the same seed: leave one of them out.")
        seen[key] = path
    return runs


def arm_label(config: Config) -> str:
    """Label of a run's method: its own or the arm that it was trained as or, without one, the names of its methods."""
    adapts_safely = config.safety.eta > 0 or config.safety.eta_lr > 0
    named = config.run.label or config.arm
    return named or f"{config.outer.method}+{config.inner.method}{'' if adapts_safely else '+eta_off'}"


def distinguish(labels: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each run; two runs have the same name if, and only if, their labels and settings are the same.

    If runs have the same label but different settings, the first keys that tell them apart are added to the label, with
    keys that name a method before all others: "fomaml+trpo_lag outer.lr=0.001".
    """
    names = list(labels)
    for label in dict.fromkeys(labels):
        members = [i for i, other in enumerate(labels) if other == label]
        keys = sorted({key for i in members for key in settings[i]}, key=lambda key: (not key.endswith(".method"), key))
        chosen: list[str] = []
        for key in keys:
            if _kinds(settings, members, [*chosen, key]) > _kinds(settings, members, chosen):
                chosen.append(key)
        for i in members:
            names[i] = " ".join([label, *(f"{key}={settings[i].get(key)}" for key in chosen)])
    return names


def _kinds(settings: Sequence[Mapping[str, Any]], members: Sequence[int], keys: Sequence[str]) -> int:
    """Number of different combinations of the values of `keys` among the runs `members`."""
    return len({repr([settings[i].get(key) for key in keys]) for i in members})


def check_alike(configs: Sequence[Config], names: Sequence[object]) -> None:
    """Raise a UserError if two configurations, called `names`, measure different things: see COMPARED_ALIKE."""
    first = _pick(configs[0], COMPARED_ALIKE, but=(SEES_THE_TASK,))
    for config, name in zip(configs[1:], names[1:], strict=True):
        other = _pick(config, COMPARED_ALIKE, but=(SEES_THE_TASK,))
        for key in [*first, *other]:
            may_differ = key == CONFLICT and None not in (first.get(key), other.get(key))
            if first.get(key) != other.get(key) and not may_differ:
                raise UserError(
                    f"{names[0]} and {name} cannot be compared: {key} is {first.get(key)!r} in the one and "
                    f"{other.get(key)!r} in the other. Evaluate them apart."
                )


def _adaptation(config: Config) -> dict[str, Any]:
    """What the arm of the random initialisation depends on, with the learned lengths of steps if there are any."""
    learned = {"outer.radius_lr": config.outer.radius_lr} if config.outer.radius_lr > 0 else {}
    return _pick(config, ADAPTATION_KEYS, but=META_TRAINING_ALONE) | learned


def _method(config: Config) -> dict[str, Any]:
    return _pick(config, ("",), but=FREE_WITHIN_AN_ARM)


def _pick(config: Config, keys: tuple[str, ...], *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Key -> value for all keys of a configuration that begin with one of `keys`, but with none of `but`."""
    settings = flatten(config)
    return {key: value for key, value in settings.items() if key.startswith(keys) and not key.startswith(but)}
