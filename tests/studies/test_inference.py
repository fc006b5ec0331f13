import math

import numpy as np
import pytest
from scipy.stats import binomtest, t
from tests.evaluation.test_statistics import VARIANCES, crossed

from cmaml_pl.evaluation.statistics import tail_width, variance_parts
from cmaml_pl.studies.inference import (
    ERROR,
    FAILS,
    HOLDS,
    UNDECIDED,
    Sample,
    holm_levels,
    judge,
    p_values,
    seeds_needed,
    width,
)
from cmaml_pl.studies.skewness import reach


def test_the_p_value_of_one_seed_dimension_is_students():
    means = np.array([1.0, 2.0, 4.0])
    effects = np.tile(means[:, None], (1, 30))  # tasks add nothing: a t test of three numbers
    expected = t.sf((means.mean() - 0.5) / (means.std(ddof=1) / math.sqrt(3)), 2)
    assert p_values(Sample(effects, 0.5)) == pytest.approx((expected, 1 - expected), rel=1e-6)
    assert p_values(Sample(-effects, -0.5)) == pytest.approx((1 - expected, expected), rel=1e-6)
    assert p_values(Sample(effects, float(means.mean()))) == (0.5, 0.5)


def test_a_p_value_is_the_tail_at_which_the_interval_ends_at_what_matters():
    effects = crossed(np.random.default_rng(0), 1, 4, 12, 0.5, 0.5, 1.0)[0] + 0.6
    before = effects.copy()
    sample = Sample(effects, 0.1)
    p, _ = p_values(sample)
    assert effects.mean() - width(sample, p) == pytest.approx(0.1, abs=1e-6)
    assert np.array_equal(effects, before)


def test_effects_far_beyond_and_without_any_variation_have_the_smallest_p_value():
    assert p_values(Sample(np.full((3, 4), 5.0), 1.0))[0] == pytest.approx(1e-12, rel=1e-3)
    assert p_values(Sample(np.full((3, 4), 1.0), 1.0)) == (0.5, 0.5)


@pytest.mark.parametrize("bad", [[math.nan], [math.inf], [-math.inf], [math.inf, -math.inf]])
def test_an_effect_that_is_not_finite_leaves_its_claim_undecided_and_no_other(bad):
    effects = np.full((3, 4), 5.0)
    effects[1, : len(bad)] = bad
    odd, sound = judge([Sample(effects, 1.0), Sample(np.full((3, 4), 5.0), 1.0)])
    assert (odd.verdict, odd.p_holds, odd.p_fails, odd.seeds, odd.seeds_needed) == (UNDECIDED, 1.0, 1.0, 3, None)
    assert math.isnan(odd.effect.value)
    assert sound.verdict == HOLDS


@pytest.mark.parametrize(
    ("p", "levels"),
    [
        ([0.001], [0.025]),
        ([0.02, 0.001, 0.5], [0.0125, 0.025 / 3, 0.0125]),  # 0.001 <= .025/3; 0.02 > .025/2: it and the rest stop there
        ([0.01, 0.001, 0.024], [0.0125, 0.025 / 3, 0.025]),
        ([0.5, 0.4], [0.0125, 0.0125]),
    ],
)
def test_holm_by_hand(p, levels):
    assert holm_levels(p) == pytest.approx(levels)


def test_a_rate_of_none_in_twenty_is_as_uncertain_as_the_binomial_says():
    none = Sample(np.zeros((3, 20)), -0.1, bounded=True)  # "less than 10 % of tasks are over their limit"
    assert p_values(none)[0] == pytest.approx(binomtest(0, 20, 0.1, alternative="less").pvalue)
    high = width(none, 0.025)
    assert binomtest(0, 20, high, alternative="less").pvalue == pytest.approx(0.025)
    assert judge([none])[0].verdict == UNDECIDED
    assert judge([Sample(np.zeros((3, 20)), -0.2, bounded=True)])[0].verdict == HOLDS


def test_the_interval_that_is_shown_agrees_with_its_verdict():
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(40):
        gains = rng.uniform(-2, 3, size=4)
        samples = [Sample(crossed(rng, 1, 3, 20, 0.3, 0.5, 1.0)[0] + gain, 0.5) for gain in gains]
        for found in judge(samples):
            low, high = found.effect.low, found.effect.high
            assert found.verdict == (HOLDS if low > 0.5 else FAILS if high < 0.5 else UNDECIDED)
            assert low <= found.plain.low + 1e-9 <= found.plain.high <= high + 1e-9
            seen.add(found.verdict)
    assert seen == {HOLDS, FAILS, UNDECIDED}


def test_one_seed_or_none_decides_nothing():
    one, none = judge([Sample(np.full((1, 20), 3.0), 0.0), Sample(np.zeros((0, 0)), 0.0)])
    assert (one.verdict, one.effect.value, one.seeds, one.seeds_needed) == (UNDECIDED, 3.0, 1, None)
    assert math.isnan(one.effect.low)
    assert (none.verdict, none.seeds) == (UNDECIDED, 0)


CLAIMS, TASKS = 4, 20


def skew_costs(rng, number, seeds, *, share, spread):
    """Costs with mean 1, (number, seeds, TASKS): a share of the tasks costs at all, some far more than others."""
    task = (rng.random((number, 1, TASKS)) < share) * np.exp(spread * rng.standard_normal((number, 1, TASKS)))
    seed = np.exp(0.3 * rng.standard_normal((number, seeds, 1)) - 0.3**2 / 2)
    return task / share / math.exp(spread**2 / 2) * seed * rng.exponential(1.0, (number, seeds, TASKS))


@pytest.mark.parametrize(("share", "spread", "most"), [(0.25, 0.0, 0.05), (0.6, 0.3, 0.05), (0.25, 0.8, 0.12)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_few_studies_find_skew_costs_within_a_limit_that_they_are_at(seeds, share, spread, most):
    """Student's intervals are wrong in 11 to 42 of a hundred."""
    studies = 4000
    within = 1.0 - skew_costs(np.random.default_rng(0), studies * CLAIMS, seeds, share=share, spread=spread)
    below, above = reach(within, ERROR / CLAIMS)
    mean = within.mean(axis=(-2, -1))
    false, over = ((sign.reshape(studies, CLAIMS)).any(axis=1).mean() for sign in (mean > below, -mean > above))
    assert false <= most
    assert over <= 0.05


@pytest.mark.parametrize("variances", VARIANCES)
@pytest.mark.parametrize("seeds", [3, 5])
def test_at_most_five_of_a_hundred_studies_without_an_effect_find_one(seeds, variances):
    """All effects are the smallest that matters, so that every "holds" is false."""
    studies = 2000
    effects = crossed(np.random.default_rng(0), studies * CLAIMS, seeds, TASKS, *VARIANCES[variances])
    # Holm finds something exactly where the smallest p value is at most the error over the number of claims
    found = effects.mean(axis=(-2, -1)) >= reach(effects, ERROR / CLAIMS)[0]
    found = found.reshape(studies, CLAIMS).any(axis=1)
    assert found.mean() <= 0.05
    for study in [0, 1, *np.flatnonzero(found)[:2]]:
        claims = effects[study * CLAIMS : (study + 1) * CLAIMS]
        verdicts = [verdict.verdict for verdict in judge([Sample(each + 0.3, 0.3) for each in claims])]
        assert (HOLDS in verdicts) == found[study]


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_large_effect_is_nearly_always_found(seeds):
    rng, a, b, e = np.random.default_rng(2), 0.2, 0.5, 0.5
    deviation = math.sqrt(a**2 / seeds + b**2 / TASKS + e**2 / seeds / TASKS)
    gain = {3: 15, 5: 7}[seeds] * deviation
    studies = [
        judge([Sample(each + gain, 0.0) for each in crossed(rng, CLAIMS, seeds, TASKS, a, b, e)]) for _ in range(25)
    ]
    assert np.mean([verdict.verdict == HOLDS for study in studies for verdict in study]) >= 0.9


@pytest.mark.parametrize(("a", "b", "e"), [(0.5, 0.3, 1.0), (1.0, 0.1, 0.3)])
def test_the_number_of_seeds_that_an_undecided_claim_is_said_to_need_is_about_right(a, b, e):
    """Drawn with that number, most are decided, and with half of it clearly fewer are."""
    rng, gain, tasks = np.random.default_rng(3), 0.45, 40
    verdicts = [judge([Sample(each + gain, 0.0)])[0] for each in crossed(rng, 100, 4, tasks, a, b, e)]
    said = [verdict.seeds_needed or 1000 for verdict in verdicts if verdict.verdict == UNDECIDED]
    likely = int(np.median(said))

    def decided(seeds):
        effects = crossed(rng, 1000, seeds, tasks, a, b, e) + gain
        return np.mean(effects.mean(axis=(-2, -1)) > tail_width(variance_parts(effects), ERROR))

    assert decided(likely) >= 0.6
    assert decided(likely // 2) <= decided(likely) - 0.2


def test_where_tasks_alone_are_too_few_no_number_of_seeds_is_named():
    rng = np.random.default_rng(4)
    effects = crossed(rng, 1, 4, 6, 0.01, 1.0, 0.1)[0]
    effects += 0.1 - effects.mean()
    assert seeds_needed(Sample(effects, 0.0), ERROR) is None
    rare = np.zeros((3, 10))
    assert seeds_needed(Sample(rare, -0.1, bounded=True), ERROR) is None  # 10 tasks do not show less than 10 %
