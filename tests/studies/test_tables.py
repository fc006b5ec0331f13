import pytest

from cmaml_pl.studies.tables import _effort

HEAD = "iteration,throughput/env_steps,throughput/env_steps_per_s\n"


@pytest.mark.parametrize("spoiled", ["", "2,,10.0\n", "2,150.0,\n", "2,150.0,0.0\n"])
def test_the_effort_of_a_run_is_read_though_a_cell_is_empty_and_the_last_line_is_cut_off(spoiled, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(f"{HEAD}1,100.0,50.0\n{spoiled}3,200.0,25.0\n4,300")
    assert _effort(path) == (200.0, 100 / 50 + 100 / 25)
