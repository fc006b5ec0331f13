"""Runs that learn the lengths of their adaptation steps."""

import pytest
import torch
from tests.commands import refused
from tests.integration.runs import DISABLED, TINY, assert_same_run, final_state, lines

from cmaml_pl import load_run
from cmaml_pl.cli import main
from cmaml_pl.runs.folder import RunFolder


def train(place, *overrides: str) -> RunFolder:
    keys = ["exp=nav2d", "run.id=a", "run.resume=auto", "quiet=true", f"run.dir={place}"]
    main(["train", *keys, *TINY, *DISABLED, "inner.steps=2", *overrides])
    return RunFolder(place / "nav2d/a")


@pytest.mark.parametrize("choice", ["arm=maml_ppo_lag", "arm=meta_srl"])
def test_it_goes_on_exactly_and_its_lengths_are_used_in_the_meta_test(choice, tmp_path):
    learn = [choice, "outer.radius_lr=1", "train.validate_every=1"]
    train(tmp_path / "a", *learn, "train.meta_iterations=1")
    ours = train(tmp_path / "a", *learn, "train.meta_iterations=2")
    whole = train(tmp_path / "b", *learn, "train.meta_iterations=2")
    assert_same_run(ours, whole)
    lengths = final_state(ours.path)["step_lengths"]
    assert (lengths != 1).all()
    assert float(lines(ours.metrics)[-1]["inner/length"]) == pytest.approx(float(lengths.mean()))

    main(["evaluate", f"run={ours.path}", "steps=3", "quiet=true"])  # more steps than there are lengths
    assert {int(line["step"]) for line in lines(ours.path / "evaluation.csv")} == {0, 1, 2, 3}
    module, tasks = load_run(ours.path)
    learned = module.adapt(tasks.splits["test"], 3, ("a test",))
    module.step_lengths = torch.ones(2)
    configured = module.adapt(tasks.splits["test"], 3, ("a test",))
    module.close()
    assert not torch.equal(learned[1].theta, configured[1].theta)


def test_a_run_that_learns_none_has_none(trained):
    assert "step_lengths" not in final_state(trained.path)
    assert "inner/length" not in lines(trained.metrics)[-1]


def test_lengths_that_no_trust_region_sets_are_refused_by_name(tmp_path):
    printed = refused("train", "exp=nav2d", "inner.method=safemeta", "outer.radius_lr=0.1", cwd=tmp_path)
    assert "outer.radius_lr is 0.1" in printed
    assert "inner.method=safemeta: choose one of cpo, crpo" in printed
    assert "outer.radius_lr is -1.0" in refused("train", "exp=nav2d", "outer.radius_lr=-1", cwd=tmp_path)
    printed = refused("train", "exp=nav2d", "outer.method=reptile", "outer.radius_lr=0.1", cwd=tmp_path)
    assert "no key outer.radius_lr" in printed
