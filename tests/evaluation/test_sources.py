import sys
from importlib import invalidate_caches

import pytest

from cmaml_pl.configuration.loading import load_experiment
from cmaml_pl.evaluation.sources import PACKAGE, WITHOUT_INFLUENCE, own_sources, sources_digest


@pytest.fixture
def package(tmp_path):
    """A copy of a few files."""
    for name in ("inner/trpo.py", "envs/nav2d.py", "evaluation/meta_test.py", "evaluation/figures.py", "cli.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    return tmp_path


def digest(package):
    return sources_digest.__wrapped__(package)  # a process reads its own sources once


@pytest.mark.parametrize("name", ["inner/trpo.py", "envs/nav2d.py", "evaluation/meta_test.py", "inner/new.py"])
def test_what_can_move_a_number_moves_the_digest(package, name):
    before = digest(package)
    assert digest(package) == before
    with (package / name).open("a") as file:
        file.write("x = 1\n")
    assert digest(package) != before


@pytest.mark.parametrize("name", ["evaluation/figures.py", "cli.py", "inner/__pycache__/trpo.pyc"])
def test_what_only_shows_numbers_does_not(package, name):
    before = digest(package)
    (package / name).parent.mkdir(exist_ok=True)
    with (package / name).open("a") as file:
        file.write("x = 1\n")
    assert digest(package) == before


def test_a_name_counts_as_well(package):
    before = digest(package)
    (package / "inner/trpo.py").rename(package / "inner/cpo.py")
    assert digest(package) != before


def test_the_package_is_read_and_what_is_left_out_exists():
    assert digest(PACKAGE) == sources_digest()
    assert (PACKAGE / "evaluation/sources.py").exists()
    assert all((PACKAGE / name).exists() for name in WITHOUT_INFLUENCE)


def test_modules_of_the_users_own_count_where_the_configuration_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    network = tmp_path / "a_network_of_mine.py"
    network.write_text("x = 1\n")
    own = ["policy.actor=a_network_of_mine:Net", "trainer.callbacks=[not_there:Printer]"]
    config = load_experiment("point_goal", own)
    before = own_sources(config)
    assert before.keys() == {"policy.actor"}
    network.write_text("x = 2\n")
    assert own_sources(config) != before
    network.unlink()
    invalidate_caches()
    assert own_sources(config) == own_sources(load_experiment("point_goal")) == {}
