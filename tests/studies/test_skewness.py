import math

import numpy as np
import pytest
from scipy.stats import kstat

from cmaml_pl.studies.skewness import bend, straighten, third_cumulant


def test_the_third_cumulant_of_a_mean_is_that_of_its_tasks_over_their_squared_number():
    effects = np.random.default_rng(0).exponential(2.0, (3, 12))
    assert third_cumulant(effects) == pytest.approx(kstat(effects.mean(axis=0), 3) / 12**2)
    assert third_cumulant(effects[:, :2]) == 0.0


@pytest.mark.parametrize("third", [-3.0, -0.01, 0.0, 1e-9, 0.4])
def test_what_is_straightened_is_bent_back(third):
    for distance in (-7.0, -0.1, 0.0, 2.0, 30.0):
        assert bend(straighten(distance, 1.3, third), 1.3, third) == pytest.approx(distance, abs=1e-6)


def test_without_skewness_or_variance_nothing_is_bent():
    assert straighten(2.5, 1.3, 0.0) == bend(2.5, 1.3, 0.0) == 2.5
    assert straighten(2.5, 0.0, 0.0) == bend(2.5, 0.0, 0.0) == 2.5


def test_a_straightened_mean_of_exponential_numbers_is_nearly_symmetric():
    n, rng = 40, np.random.default_rng(1)
    samples = rng.exponential(1.0, (20000, 1, n)) - 1.0
    mean, sd = samples.mean(axis=(1, 2)), samples.std(axis=(1, 2), ddof=1) / math.sqrt(n)
    straight = straighten(mean, sd, third_cumulant(samples)) / sd

    def tails(statistic):
        return [float((sign * statistic > 2.0227).mean()) for sign in (1, -1)]  # Student's, with 39 degrees of freedom

    assert tails(mean / sd)[1] > 0.055
    assert tails(straight) == pytest.approx([0.025, 0.025], abs=0.012)
