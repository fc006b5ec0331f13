"""What a study is: which arms are trained with which seeds on which experiment, and what is claimed about them."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from cmaml_pl.bounds import bounded
from cmaml_pl.configuration.loading import load_experiment, own_name
from cmaml_pl.configuration.schema import Config

RANDOM, META_POLICY, LIMIT, PUBLISHED = "random", "meta_policy", "limit", "published"
"""What an arm can be held against, beside another arm and a number; the last one stands before a method's name."""

COLUMNS = {
    "return": "return",
    "cost": "cost",
    "worst_cost": "cost",
    "over_limit": "violated",
    "score": "score",
    "critic_error": "critic_error",
}
"""Quantity of a claim -> its column in evaluation.csv."""

HIGHER, LOWER = "higher", "lower"

DEFAULT_ARMS = ("cmaml", "cmaml_cpo", "cmaml_reptile", "eta_off", "maml", "maml_penalty", "pretrain")
"""Of a study that names none."""


@dataclass(frozen=True)
class Arm:
    """One method of a study; two arms may differ in some settings alone.

    Attributes:
        arm: its name in conf/arm, or its YAML file.
        label: what claims, run folders and figures call it; empty for the arm's own name.
        overrides: key=value, which come after those of the study.
    """

    arm: str
    label: str = ""
    overrides: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The label, or the arm's own name."""
        return self.label or own_name("arm", self.arm)


@dataclass(frozen=True)
class Claim:
    """That an arm is better than something by more than an amount that matters.

    Attributes:
        arm: whose.
        quantity: mean return or cost of an episode; worst_cost, the largest mean cost over the steps up to `step`;
            over_limit, the share of seeds and tasks whose mean cost is over their limit; the score; or critic_error,
            |Jhat_C - J_C|, by how much the safety critic is wrong about the mean cost of an episode of the task.
        direction: which is better, higher or lower.
        against: another arm, random (the random start that adapts as the arm does), meta_policy (the same arm before
            it adapts), limit (of the cost), a number, or in a file "published METHOD", which stands for its number.
        step: number of adaptation steps; None for the last.
        smallest_effect: the smallest difference that matters, in the unit of the quantity; over_limit and score are
            shares. The claim is that the difference is greater.
        source: where a number is from.
    """

    arm: str
    quantity: str = bounded("return", choices=tuple(COLUMNS))
    direction: str = bounded(HIGHER, choices=(HIGHER, LOWER))
    against: Any = None
    step: int | None = bounded(None, low=0)
    smallest_effect: float = bounded(0.0, low=0)
    source: str | None = None


@dataclass(frozen=True)
class Published:
    """What others have published of a method on the experiment, which is drawn beside the arms.

    Attributes:
        method: the method; where it is an arm's name in conf/arm, figures give it the arm's label and colour.
        source: where the numbers are from.
        returns: number of adaptation steps -> return of an episode.
    """

    method: str
    source: str
    returns: dict[int, float]

    def up_to(self, last: int) -> dict[int, float]:
        """The returns after at most `last` steps, in the order of the steps."""
        return {step: self.returns[step] for step in sorted(self.returns) if step <= last}


@dataclass(frozen=True)
class Study:
    """Arms with several seeds on one experiment, and the claims about them.

    Attributes:
        exp: an experiment, by its name or its YAML file.
        name: of the study and its folder; of one without a file it is made from its arms.
        arms: methods, each by its name in conf/arm, by its YAML file, or with the keys of `Arm`.
        seeds: of the trainings; every arm is trained with each.
        steps: number of adaptation steps of the meta-test.
        overrides: key=value for all trainings.
        question: one sentence for the report.
        claims: what is to be decided.
        published: curves of other authors on the same experiment.
        trial: whether it only tries the pipeline: it then has no verdicts. No key of a file, like the next two.
        command: that repeats it.
        left_out: number of claims of its file that a command with fewer arms or steps leaves out.
    """

    exp: str
    name: str = ""
    arms: list[Arm] = field(default_factory=lambda: [Arm(name) for name in DEFAULT_ARMS])
    seeds: list[int] = bounded([0, 1, 2], low=0)
    steps: int = bounded(3, low=1)
    overrides: list[str] = field(default_factory=list)
    question: str = ""
    claims: list[Claim] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    trial: bool = False
    command: str = ""
    left_out: int = 0

    @property
    def labels(self) -> list[str]:
        """The arms' names."""
        return [arm.name for arm in self.arms]

    @property
    def exp_name(self) -> str:
        """The experiment's name."""
        return own_name("exp", self.exp)

    def settings(self, arm: Arm) -> list[str]:
        """The overrides of an arm's trainings."""
        # json.dumps quotes the label, so that one like 007 stays a string
        label = [f"run.label={json.dumps(arm.label)}"] if arm.label else []
        return [*self.overrides, *label, *arm.overrides]

    def config(self, arm: Arm) -> Config:
        """The configuration that an arm is trained with, but for seed and run."""
        return load_experiment(self.exp, [*self.settings(arm), f"arm={arm.arm}"])

    @cached_property
    def folder(self) -> Path:
        """Where its results go, beside its runs."""
        return Path(self.config(self.arms[0]).run.dir) / self.exp_name / f"study-{self.name}"
