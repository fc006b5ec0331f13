import math
from types import SimpleNamespace

import numpy as np
import pytest
from tests.evaluation.test_statistics import row

from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.evaluation.parts import Part
from cmaml_pl.evaluation.statistics import UNKNOWN, Estimate
from cmaml_pl.evaluation.yardstick import Yardstick
from cmaml_pl.studies.claims import find_sample, in_words, verdict_in_words
from cmaml_pl.studies.definition import Claim
from cmaml_pl.studies.inference import HOLDS, UNDECIDED, Verdict

RANDOM_ARMS = {"cmaml": "random", "maml": "random inner.method=trpo"}
CONFIGS = {arm: load_experiment("nav2d", [f"arm={arm}"]) for arm in RANDOM_ARMS}
COSTS = {"cmaml": [1.0, 4.0, 2.0], "maml": [9.0, 5.0, 8.0], "random": [7.0, 7.0, 7.0]}
RETURNS = {"cmaml": 3.0, "maml": 2.0, "random": 1.0, "random inner.method=trpo": 0.5}
"""At each step, but for what a seed and a task add."""

ROWS = [
    row(
        arm,
        seed,
        task,
        step,
        **{
            "return": gain + step + 0.1 * seed + 10 * task,
            "cost": COSTS.get(arm, [0.0] * 3)[step] + 0.1 * seed,
            "violated": int(arm == "maml"),
        },
    )
    for arm, gain in RETURNS.items()
    for seed in (0, 1, 2)
    for task in (7, 8)
    for step in (0, 1, 2)
]


def sample(yardstick=None, **claim):
    parts = [
        Part(arm, SimpleNamespace(config=CONFIGS[arm], arm=arm, random_arm=random), "learned")
        for arm, random in RANDOM_ARMS.items()
    ]
    return find_sample(Claim(**{"arm": "cmaml", "step": 2, **claim}), parts, ROWS, yardstick, last=2)


@pytest.mark.parametrize(
    ("claim", "effect"),
    [
        ({"against": "maml"}, 1.0),
        ({"against": "maml", "direction": "lower"}, -1.0),
        ({"against": "random"}, 2.0),
        ({"against": "random", "arm": "maml"}, 1.5),  # its own random start, which adapts as it does
        ({"against": "meta_policy"}, 2.0),
        ({"against": "maml", "quantity": "over_limit", "direction": "lower"}, 1.0),
        ({"against": "limit", "quantity": "cost", "direction": "lower"}, 3.0 - 2.1),
        ({"against": "limit", "quantity": "cost", "direction": "lower", "step": 1}, 3.0 - 4.1),
        ({"against": "limit", "quantity": "worst_cost", "direction": "lower"}, 3.0 - 4.1),  # at step 1
        ({"against": "limit", "quantity": "worst_cost", "direction": "lower", "step": 0}, 3.0 - 1.1),
        ({"against": "maml", "quantity": "worst_cost", "direction": "lower"}, 9.0 - 4.0),  # at its step 0
        ({"against": 15, "quantity": "return", "step": None}, 3 + 2 + 0.1 + 75 - 15),
    ],
)
def test_what_decides_a_claim_is_paired_by_seed_and_task(claim, effect):
    found = sample(**claim)
    assert found.effects.shape == (3, 2)
    assert found.effects.mean() == pytest.approx(effect)
    if isinstance(claim["against"], str) and claim["against"] != "limit":
        assert np.allclose(found.effects, effect)  # seeds and tasks cancel
    assert found.bounded == (claim.get("quantity") == "over_limit")


def test_a_score_is_judged_with_the_deviation_of_its_yardstick():
    yardstick = Yardstick("random", "maml", 2, floor=0.0, ceiling=0.0)  # its ends are read from the rows
    found = sample(yardstick, quantity="score", against=0.5)
    assert found.effects.mean() == pytest.approx((5 - 1) / (4 - 1) - 0.5)
    assert sample(quantity="score", against=0.5).effects.size == 0  # without a yardstick nothing is known


def test_a_claim_in_words():
    assert in_words(Claim("cmaml", "return", "higher", "random", 3, 0.05), last=10) == (
        "C-MAML: the return after 3 steps is higher than that of a random start, by more than 0.05"
    )
    assert in_words(Claim("cmaml", "return", "higher", -105, 0, 0.0, "a figure"), last=10) == (
        "C-MAML: the return before adaptation is higher than -105 (a figure)"
    )
    assert in_words(Claim("my_arm", "worst_cost", "lower", "limit"), last=10) == (
        "my_arm: the largest mean cost over steps 0 to 10 is lower than the limit"
    )
    assert in_words(Claim("cmaml", "critic_error", "lower", "maml", 0), last=10) == (
        "C-MAML: the safety critic's error of a task's cost before adaptation is lower than that of MAML (no limit)"
    )
    assert in_words(Claim("cmaml", "over_limit", "lower", "maml", 1), last=10) == (
        "C-MAML: the share of tasks over their limit after 1 step is lower than that of MAML (no limit)"
    )
    assert in_words(Claim("cmaml", "cost", "lower", "meta_policy"), last=2).endswith("is lower than before adaptation")


def test_a_verdict_in_words():
    known = Estimate(1.0, 0.5, 1.5)
    holds, open_ = (Verdict(verdict, known, known, 0.01, 0.99, 3, 7) for verdict in (HOLDS, UNDECIDED))
    assert verdict_in_words(holds, trial=False) == "holds"
    assert verdict_in_words(open_, trial=False) == "undecided: 7 seeds in all would probably decide it"
    assert verdict_in_words(open_, trial=True) == "undecided: only a trial"
    no_yardstick = Verdict(UNDECIDED, UNKNOWN, UNKNOWN, 1.0, 1.0, 0, None)
    assert verdict_in_words(no_yardstick, trial=False).endswith(
        "there are no numbers for it; a score needs its yardstick"
    )
    not_finite = Verdict(UNDECIDED, UNKNOWN, UNKNOWN, 1.0, 1.0, 3, None)
    assert verdict_in_words(not_finite, trial=False) == "undecided: a number is not finite"
    one_seed = Estimate(1.0, math.nan, math.nan)
    assert "several seeds" in verdict_in_words(Verdict(UNDECIDED, one_seed, one_seed, 1.0, 1.0, 1, None), trial=False)
    assert "too few" in verdict_in_words(Verdict(UNDECIDED, known, known, math.nan, 1.0, 3, None), trial=False)
