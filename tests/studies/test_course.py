import math

import pytest

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.studies.course import find_course

HEAD = "iteration,throughput/env_steps,throughput/env_steps_per_s\n"


@pytest.mark.parametrize("spoiled", ["", "2,,10.0\n", "2,150.0,\n", "2,150.0,0.0\n"])
def test_the_effort_of_a_run_is_read_though_a_cell_is_empty_and_the_last_line_is_cut_off(spoiled, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(f"{HEAD}1,100.0,50.0\n{spoiled}3,200.0,25.0\n4,300")
    course = find_course(read_metrics(path), limit=1.0, eta_max=2.0)
    assert (course.env_steps, course.seconds) == (200.0, 100 / 50 + 100 / 25)


def test_the_course_of_a_run_is_that_of_its_last_meta_iterations():
    metrics = [{"iteration": i, "pre/cost": float(i), "post/cost": 2.0 * i, "eta": min(i / 10, 2.0)} for i in range(30)]
    metrics += [{"iteration": 30, "val/pre/cost": 99.0}]  # a line of validation alone
    course = find_course(metrics, limit=15.0, eta_max=2.0)
    assert (course.iterations, course.counted) == (30, 20)
    assert course.over == 14  # 16 to 29
    assert (course.cost_before, course.cost_after) == (19.5, 39.0)  # of 10 to 29
    assert math.isnan(course.return_before)
    assert (course.eta, course.at_cap) == (2.0, 10 / 30)


def test_a_run_that_measured_nothing_has_no_course():
    course = find_course([], limit=1.0, eta_max=2.0)
    assert (course.iterations, course.over, course.counted) == (0, 0, 0)
    assert math.isnan(course.cost_before)
    assert math.isnan(course.at_cap)


def test_a_batch_is_over_the_limit_of_its_own_tasks():
    metrics = [{"pre/cost": 5.5, "pre/over_limit": over} for over in [1.0] * 10 + [0.0] * 3 + [1.0] * 4]
    assert find_course(metrics, limit=5.0, eta_max=2.0).over == 4
