import math

import numpy as np
import pytest
from tests.evaluation.test_statistics import row

from cmaml_pl.evaluation.statistics import summarise
from cmaml_pl.evaluation.yardstick import NoYardstickError, estimate_scores, find_yardstick, with_scores

CURVES = {  # arm: (return, cost) of each step; the limit is 3
    "cmaml": [(1.0, 2.0), (4.0, 2.0)],
    "maml": [(1.0, 9.0), (9.0, 9.0)],
    "oracle": [(6.0, 2.0), (8.0, 3.5)],
    "random": [(-2.0, 7.0), (0.0, 2.0)],
}


def make_rows(curves=CURVES, seeds=(0, 1), spread=0.0):
    return [
        row(method, seed, task, step, **{"return": value + spread * (seed + task), "cost": cost})
        for method, curve in curves.items()
        for seed in seeds
        for task in (5, 6, 7)
        for step, (value, cost) in enumerate(curve)
    ]


def find(rows):
    return find_yardstick(rows, oracles={"oracle"}, random="random")


def test_the_ceiling_is_the_oracles_best_return_within_the_limit():
    found = find(make_rows())
    assert (found.random, found.floor) == ("random", -2.0)
    assert (found.method, found.step, found.ceiling) == (
        "oracle",
        0,
        6.0,
    )  # its later 8 and MAML's 9 are over the limit
    assert found.score(2.0) == 0.5


def test_an_arm_that_ends_beyond_the_oracle_within_its_limit_is_the_ceiling():
    found = find(make_rows({**CURVES, "cmaml": [(1.0, 2.0), (7.0, 3.0)]}))
    assert (found.method, found.step, found.ceiling) == ("cmaml", 1, 7.0)


def test_the_limit_is_on_the_mean_cost():
    rows = make_rows({**CURVES, "oracle": [(6.0, 3.0), (5.0, 1.0)]})
    assert find(rows).step == 0
    over = [{**line, "cost": 3.3} if (line["method"], line["task"]) == ("oracle", 5) else line for line in rows]
    assert find(over).ceiling == 5.0


@pytest.mark.parametrize(
    ("curves", "oracles", "random", "reason"),
    [
        (CURVES, set(), "random", "train one with ARM=oracle"),
        (CURVES, {"oracle"}, None, "no random start"),
        ({**CURVES, "oracle": [(6.0, 4.0), (8.0, 4.0)]}, {"oracle"}, "random", "over the limit at every step"),
        (
            {"oracle": [(-3.0, 1.0), (-2.0, 1.0)], "random": [(-2.0, 1.0), (-2.0, 5.0)]},
            {"oracle"},
            "random",
            "no better than the random start",
        ),
    ],
)
def test_without_a_yardstick_it_says_why(curves, oracles, random, reason):
    with pytest.raises(NoYardstickError, match=reason):
        find_yardstick(make_rows(curves), oracles=oracles, random=random)


def test_scores_are_shares_of_the_way_from_the_random_start_to_the_ceiling():
    rows = make_rows(spread=0.5)
    scores = estimate_scores(rows, find(rows))
    expected = {("cmaml", 1): 0.75, ("maml", 1): 1.375, ("oracle", 0): 1.0, ("random", 0): 0.0, ("random", 1): 0.25}
    for key, value in expected.items():
        assert scores[key].value == pytest.approx(value)
        # seeds and tasks differ, but all arms have the same: paired, nothing is left of it
        assert scores[key].high - scores[key].low == pytest.approx(0.0, abs=1e-9)
    assert summarise(rows, scores)[1].score == scores["cmaml", 1]


def test_the_interval_of_a_score_covers_it_as_often_as_it_says():
    """Floor, ceiling and arm each have seeds and tasks of their own effect; the true score is 0.5."""
    rng, hits = np.random.default_rng(0), 0
    means = {"random": 0.0, "oracle": 4.0, "cmaml": 2.0}
    for _ in range(200):
        rows = []
        for method, mean in means.items():
            values = (
                mean + 0.6 * rng.normal(size=(3, 1)) + 0.6 * rng.normal(size=(1, 10)) + 0.3 * rng.normal(size=(3, 10))
            )
            rows += [row(method, s, p, 0, **{"return": values[s, p]}) for s in range(3) for p in range(10)]
        score = estimate_scores(rows, find(rows))["cmaml", 0]
        hits += score.low <= 0.5 <= score.high
    assert hits >= 0.93 * 200


def test_a_score_is_on_the_seeds_that_all_three_share():
    rows = make_rows()
    changed = [{**line, "return": 99.0} if (line["method"], line["seed"]) == ("cmaml", 1) else line for line in rows]
    kept = [line for line in changed if (line["method"], line["seed"]) != ("random", 1)]
    assert estimate_scores(kept, find(rows))["cmaml", 1].value == pytest.approx(0.75)
    apart = [{**line, "seed": 7} if line["method"] == "cmaml" and line["seed"] == 0 else line for line in kept]
    assert math.isnan(estimate_scores(apart, find(rows))["cmaml", 1].value)


def test_rows_get_their_score_and_the_largest_cost_so_far():
    curves = {**CURVES, "cmaml": [(1.0, 2.0), (2.0, 5.0), (6.0, 1.0)]}
    rows = make_rows(curves)
    found = with_scores(rows, find(rows))
    assert [
        {key: value for key, value in line.items() if key not in ("score", "anytime_cost")} for line in found
    ] == rows
    cmaml = [line for line in found if (line["method"], line["seed"], line["task"]) == ("cmaml", 1, 6)]
    assert [line["anytime_cost"] for line in cmaml] == [2.0, 5.0, 5.0]
    assert [line["score"] for line in cmaml] == [0.375, 0.5, 1.0]
    assert all(math.isnan(line["score"]) for line in with_scores(rows, None))
    assert with_scores(rows[::-1], find(rows)) == found[::-1]  # whatever the order of the rows
