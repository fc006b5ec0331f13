"""What the command line says of itself."""

import pytest
from omegaconf import OmegaConf

from cmaml_pl.cli import VERBS, main
from cmaml_pl.configuration.loading import load_experiment, store


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
    assert f"python -m cmaml_pl {verb} " in printed
    assert ("=" in printed.split("key=value ...")[1]) == (verb != "completion")
    assert ("half_cheetah_velocity" in printed) == (verb in ("train", "config"))


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
