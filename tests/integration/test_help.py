"""What the command line says of itself."""

import sys
from importlib.metadata import version

import pytest
from omegaconf import OmegaConf

from cmaml_pl.cli import VERBS, main
from cmaml_pl.configuration.loading import load_experiment, store
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.schema import Config


@pytest.mark.parametrize("asked", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_verbs_and_experiments(asked, capsys):
    main(asked)
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)
    assert "point_goal" in printed


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "help"])
def test_every_verb_tells_what_it_takes_and_runs_nothing(verb, capsys):
    main([verb, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"python -m cmaml_pl {verb} ")
    assert "=" in printed.split("\n\n", 1)[1] or verb == "completion"
    assert ("half_cheetah_velocity" in printed) == (verb in ("train", "config"))


def test_help_of_train_has_the_sections_keys_with_their_defaults(capsys):
    main(["train", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "seed=0 quiet=false run. dir=runs id=null" in printed
    assert "train. meta_iterations=100 tasks_per_batch=16" in printed
    assert "trust_region.max_kl=0.03" in printed
    for key in flatten(Config()):
        assert f" {key.partition('.')[2] or key}=" in printed, key


def test_it_names_the_program_as_it_was_called_and_its_version(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/some/where/bin/cmaml"])
    main(["evaluate", "--help"])
    assert capsys.readouterr().out.startswith("cmaml evaluate key=value")
    main(["--version"])
    assert capsys.readouterr().out == f"{version('cmaml_pl')}\n"


def test_config_prints_the_configuration_that_train_would_use(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["config", "exp=nav2d", "arm=maml", "outer.lr=0.5"])
    store(load_experiment("nav2d", ["arm=maml", "outer.lr=0.5"]), tmp_path / "expected.yaml")
    printed = OmegaConf.create(capsys.readouterr().out)
    assert printed == OmegaConf.load("expected.yaml")
    (tmp_path / "mine.yaml").write_text("base: nav2d\nseed: 7\n")
    main(["config", "exp=mine.yaml"])
    own = OmegaConf.create(capsys.readouterr().out)
    assert (own.exp, own.seed, own.rollout.horizon) == ("mine", 7, 50)
