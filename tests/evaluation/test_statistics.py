import math

import numpy as np
import pytest
from scipy.stats import norm

from cmaml_pl.evaluation.statistics import Estimate, estimate, interquartile_mean, mean, summarise


def test_the_interquartile_mean_is_the_mean_of_the_middle_half():
    assert interquartile_mean(np.array([100.0, 1.0, 2.0, 3.0, 4.0, -50.0, 2.5, 2.5])) == pytest.approx(2.5)
    assert interquartile_mean(np.arange(8.0).reshape(2, 4)).tolist() == [1.5, 5.5]


def crossed(rng, seeds, tasks, seed_deviation, task_deviation, noise=0.5):
    """Scores with an effect of the seed, one of the task, and noise; their true mean is 0."""
    effects = seed_deviation * rng.normal(size=(seeds, 1)) + task_deviation * rng.normal(size=(1, tasks))
    return effects + noise * rng.normal(size=(seeds, tasks))


@pytest.mark.parametrize(("seed_deviation", "task_deviation"), [(0.0, 1.0), (1.0, 0.0), (0.7, 0.7)])
def test_an_interval_over_seeds_and_tasks_is_as_wide_as_their_effects_ask_for(seed_deviation, task_deviation):
    """Against the normal interval that knows the variances of the model: s^2/S + t^2/T + n^2/(S T)."""
    rng = np.random.default_rng(1)
    seeds, tasks = 30, 40
    widths = []
    for _ in range(10):
        found = estimate(crossed(rng, seeds, tasks, seed_deviation, task_deviation), mean)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    true = 2 * norm.ppf(0.975) * math.sqrt(seed_deviation**2 / seeds + task_deviation**2 / tasks + 0.25 / seeds / tasks)
    assert np.mean(widths) == pytest.approx(true, rel=0.15)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    found = [estimate(crossed(rng, 10, 16, 0.5, 0.5), interquartile_mean) for _ in range(60)]
    assert 0.8 <= np.mean([e.low <= 0.0 <= e.high for e in found]) <= 1.0


def test_with_one_seed_the_interval_is_over_tasks_and_with_one_score_there_is_none():
    scores = np.random.default_rng(0).normal(size=(1, 30))
    one_seed, one_task = estimate(scores, mean), estimate(scores.T, mean)
    assert one_seed == one_task
    assert one_seed.high - one_seed.low == pytest.approx(2 * norm.ppf(0.975) * scores.std() / math.sqrt(30), rel=0.1)
    alone = estimate(np.array([[3.0]]), mean)
    assert alone.value == 3.0
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    assert not alone.above(Estimate(0.0, 0.0, 0.0))


def test_the_same_scores_give_the_same_interval_and_are_left_alone():
    scores = np.random.default_rng(0).normal(size=(3, 20))
    before = scores.copy()
    assert estimate(scores, interquartile_mean) == estimate(scores, interquartile_mean)
    assert np.array_equal(scores, before)


def test_scores_that_are_all_equal_give_an_interval_without_width():
    assert estimate(np.ones((3, 4)), mean) == Estimate(1.0, 1.0, 1.0)


def row(method, seed, task, step, **values):
    numbers = {"return": 1.0, "cost": 2.0, "max_cost": 4.0, "cost_limit": 3.0, "violated": 0, "env_steps": 10 * step}
    return {"method": method, "seed": seed, "task": task, "step": step, **numbers, **values}


def test_a_summary_pools_seeds_and_tasks_of_an_arm_and_step():
    rows = [
        row(method, seed, task, step, **{"return": seed + task, "violated": int(task == 7), "max_cost": 4.0 + task})
        for method, seeds in (("a", (0, 1, 2)), ("b", (5,)))
        for seed in seeds
        for task in (7, 8)
        for step in (0, 1)
    ]
    found = {(summary.method, summary.step): summary for summary in summarise(rows)}
    assert list(found) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    a = found["a", 1]
    assert (a.seeds, a.tasks, a.env_steps, a.cost_limit) == (3, 2, 10.0, 3.0)
    assert a.returns.value == pytest.approx(8.5)  # the middle four of 7, 8, 8, 9, 9, 10
    assert a.violation_rate.value == 0.5
    assert a.worst_cost == 12.0
    assert a.cost == Estimate(2.0, 2.0, 2.0)
    assert found["b", 0].seeds == 1
