import math

import numpy as np
import pytest
from scipy.stats import t

from cmaml_pl.evaluation.statistics import Estimate, compare, components, estimate, half_width, shared_tables, summarise


def crossed(rng, tables, seeds, tasks, seed_deviation, task_deviation, noise):
    """Scores with an effect of the seed, one of the task, and noise, (tables, seeds, tasks); their true mean is 0."""
    effects = seed_deviation * rng.normal(size=(tables, seeds, 1)) + task_deviation * rng.normal(
        size=(tables, 1, tasks)
    )
    return effects + noise * rng.normal(size=(tables, seeds, tasks))


VARIANCES = {
    "seeds": (1.0, 0.1, 0.5),
    "tasks": (0.05, 1.0, 0.5),
    "both alike": (0.7, 0.7, 0.5),
    "alike in the mean": (0.3, 1.0, 0.3),
    "noise": (0.1, 0.1, 1.0),
}
"""Deviations of seeds, tasks and noise, by what dominates."""


@pytest.mark.parametrize("variances", VARIANCES)
@pytest.mark.parametrize("tasks", [20, 40])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_a_few_seeds_cover_the_truth_as_often_as_they_say(seeds, tasks, variances):
    """A percentile bootstrap over three seeds covers it in about 76 of 100 where seeds dominate."""
    deviations = VARIANCES[variances]
    scores = crossed(np.random.default_rng(0), 4000, seeds, tasks, *deviations)
    half = half_width(scores)
    assert np.mean(np.abs(scores.mean(axis=(-2, -1))) <= half) >= 0.93
    # and not by being wide: never wider than an interval of the seeds' means alone, where these were all that varies
    a, b, e = deviations
    deviation = math.sqrt(a**2 / seeds + b**2 / tasks + e**2 / seeds / tasks)
    assert half.mean() <= t.ppf(0.975, seeds - 1) * deviation


def test_an_interval_of_many_seeds_and_tasks_is_as_wide_as_their_effects_ask_for():
    """Against the normal interval that knows the variances of the model: s^2/S + t^2/T + n^2/(S T)."""
    seeds, tasks = 100, 120
    scores = crossed(np.random.default_rng(1), 200, seeds, tasks, 0.7, 0.7, 0.5)
    true = 1.96 * math.sqrt(0.49 / seeds + 0.49 / tasks + 0.25 / seeds / tasks)
    assert half_width(scores).mean() == pytest.approx(true, rel=0.03)


def test_without_noise_and_tasks_effects_it_is_the_t_interval_of_the_seeds_means():
    means = np.array([1.0, 2.0, 4.0])
    found = estimate(np.tile(means[:, None], (1, 30)))
    half = t.ppf(0.975, 2) * means.std(ddof=1) / math.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))
    turned = estimate(np.tile(means[:, None], (1, 30)).T)  # thirty seeds, three tasks: the same the other way round
    assert (turned.low, turned.high) == pytest.approx((found.low, found.high))


def test_components_of_variance_by_hand_and_of_large_tables():
    """Rows that differ by 2 and columns by 4 without noise; and the deviations of a drawn table."""
    scores = np.array([[0.0, 4.0], [2.0, 6.0]])
    assert components(scores) == pytest.approx((2.0, 8.0, 0.0))  # sample variances of (0, 2) and of (0, 4)
    found = components(crossed(np.random.default_rng(0), 1, 300, 300, 0.7, 0.4, 1.5)[0])
    assert found == pytest.approx((0.49, 0.16, 2.25), rel=0.15)


def test_with_one_seed_the_interval_is_over_tasks_and_with_one_score_there_is_none():
    scores = np.random.default_rng(0).normal(size=(1, 30))
    one_seed, one_task = estimate(scores), estimate(scores.T)
    assert one_seed == one_task
    assert one_seed.high - one_seed.value == pytest.approx(t.ppf(0.975, 29) * scores.std(ddof=1) / math.sqrt(30))
    alone = estimate(np.array([[3.0]]))
    assert alone.value == 3.0
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    assert not alone.above_zero
    assert not alone.below_zero


def test_an_interval_is_cut_to_what_can_be_and_leaves_its_scores_alone():
    scores = np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    before = scores.copy()
    assert estimate(scores).low < 0 < 1 < estimate(scores).high
    assert estimate(scores, within=(0.0, 1.0)) == Estimate(0.5, 0.0, 1.0)
    assert np.array_equal(scores, before)


def test_scores_that_are_all_equal_give_an_interval_without_width():
    assert estimate(np.ones((3, 4))) == Estimate(1.0, 1.0, 1.0)


def row(method, seed, task, step, **values):
    numbers = {"return": 1.0, "cost": 2.0, "max_cost": 4.0, "cost_limit": 3.0, "violated": 0, "env_steps": 10 * step}
    numbers["critic_error"] = 0.5
    return {"method": method, "seed": seed, "task": task, "step": step, **numbers, **values}


def test_a_summary_pools_seeds_and_tasks_of_an_arm_and_step():
    rows = [
        row(method, seed, task, step, **{"return": seed**2 + task, "violated": int(task == 7), "max_cost": 4.0 + task})
        for method, seeds in (("a", (0, 1, 2)), ("b", (5,)))
        for seed in seeds
        for task in (7, 8)
        for step in (0, 1)
    ]
    found = {(summary.method, summary.step): summary for summary in summarise(rows)}
    assert list(found) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    a = found["a", 1]
    assert (a.seeds, a.tasks, a.env_steps, a.cost_limit) == (3, 2, 10.0, 3.0)
    assert a.returns.value == pytest.approx(7.5 + 5 / 3)  # a mean: a limit on an expectation knows no other
    assert a.violation_rate.value == 0.5
    assert 0.0 <= a.violation_rate.low < 0.5 < a.violation_rate.high <= 1.0
    assert a.worst_cost == 12.0
    assert a.cost == Estimate(2.0, 2.0, 2.0)
    assert a.critic_error == Estimate(0.5, 0.5, 0.5)
    assert math.isnan(a.score.value)
    assert found["b", 0].seeds == 1


def test_anytime_cost_is_the_largest_mean_so_far_of_the_mean_task_and_of_the_worst():
    costs = {  # step, then seed, then task
        0: [[1.0, 5.0], [3.0, 3.0]],
        1: [[9.0, 1.0], [1.0, 3.0]],
        2: [[0.0, 0.0], [0.0, 0.0]],
    }
    rows = [
        row("a", seed, task, step, cost=costs[step][seed][task])
        for step in (2, 0, 1)  # whatever the order of the rows
        for seed in (0, 1)
        for task in (0, 1)
    ]
    found = {summary.step: summary for summary in summarise(rows)}
    assert [found[step].anytime_cost for step in (0, 1, 2)] == [3.0, 3.5, 3.5]
    # of the tasks' means over seeds: (2, 4), (5, 2), (0, 0); a single seed's 9 is no task's expectation
    assert [found[step].anytime_cost_worst_task for step in (0, 1, 2)] == [4.0, 5.0, 5.0]


def arms_on_shared_tasks(difference, seeds=3, tasks=20):
    """Two arms whose tasks differ far more than they do, and which share seeds and tasks."""
    rng = np.random.default_rng(3)
    effects = rng.normal(size=(seeds, tasks))
    return [
        row(method, seed, task, 2, **{"return": 5 * task + effects[seed, task] + gain, "cost": 10.0 - gain})
        for method, gain in (("a", difference), ("b", 0.0))
        for seed in range(seeds)
        for task in range(tasks)
    ]


def test_arms_are_compared_by_paired_differences_where_their_own_intervals_overlap():
    rows = arms_on_shared_tasks(0.5)
    a, b = summarise(rows)
    assert a.returns.low < b.returns.value < a.returns.high
    ab, ba = compare(rows)
    assert (ab.method, ab.other, ab.step, ab.seeds) == ("a", "b", 2, 3)
    assert (ab.returns.value, ab.cost.value) == (pytest.approx(0.5), pytest.approx(-0.5))
    assert ab.returns.above_zero
    assert ab.cost.below_zero
    assert ba.returns.below_zero
    assert not ab.violation_rate.above_zero
    assert not ab.violation_rate.below_zero


def test_arms_are_compared_on_the_seeds_that_they_share():
    rows = arms_on_shared_tasks(0.5)
    lost = [line for line in rows if (line["method"], line["seed"]) != ("b", 0)]
    assert compare(lost)[0].seeds == 2
    assert compare(lost)[0].returns.value == pytest.approx(0.5)
    assert [len(found) for found in shared_tables([lost[:60], lost[60:]], "return")] == [2, 2]
    apart = [{**line, "seed": line["seed"] + 10} if line["method"] == "b" else line for line in rows]
    none = compare(apart)[0]
    assert none.seeds == 0
    assert math.isnan(none.returns.value)
    assert not none.returns.above_zero


def test_only_the_last_step_is_compared():
    rows = [*arms_on_shared_tasks(0.5), *({**line, "step": 0, "return": 0.0} for line in arms_on_shared_tasks(9.0))]
    assert [found.step for found in compare(rows)] == [2, 2]
    assert compare(rows)[0].returns.value == pytest.approx(0.5)
