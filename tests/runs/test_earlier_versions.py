"""Runs of earlier versions go on, are evaluated and exported."""

import pytest
import torch
import yaml
from tests.integration.runs import DISABLED, TINY, final_state, lines

from cmaml_pl import load_run
from cmaml_pl.cli import main
from cmaml_pl.configuration.merging import GONE, NEWER, RENAMED
from cmaml_pl.runs.folder import RunFolder
from cmaml_pl.runs.upgrade import FIRST_LAYER

OLD_NAMES = {new: old for old, new in RENAMED.items()}

AS_THEN = ["policy.context=0", "outer.average=1", "outer.clip=null"]
"""Of the experiment: what it did not have."""


def train(folder: RunFolder, iterations: int, *overrides: str) -> None:
    keys = ["exp=nav2d", "run.id=a", "run.resume=auto", "quiet=true", f"run.dir={folder.path.parents[1]}"]
    main(["train", *keys, *TINY, *DISABLED, *AS_THEN, f"train.meta_iterations={iterations}", *overrides])


def write_as_before_the_trust_region_had_a_section(folder: RunFolder) -> None:
    config = yaml.safe_load(folder.config.read_text())
    region = config["inner"].pop("trust_region")
    config["inner"] |= {name: value for name, value in region.items() if f"inner.{name}" in RENAMED}
    for key in set(NEWER) - {item.partition("=")[0] for item in AS_THEN}:
        section, _, name = key.partition(".")
        config[section].pop(name, None)
    del config["deployment"], config["run"]["label"]
    for key, value in GONE.items():
        section, _, name = key.partition(".")
        config[section][name] = value
    folder.config.write_text(yaml.safe_dump(config))
    for path in folder.checkpoints.iterdir():
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"] = {
            OLD_NAMES.get(key, key): value for key, value in content["hyper_parameters"].items() if key not in NEWER
        }
        content["hyper_parameters"] |= GONE
        del content["state_dict"]["deployed"]
        torch.save(content, path)


def write_as_before_the_safety_critic_knew_the_time(folder: RunFolder) -> None:
    for path in folder.checkpoints.iterdir():
        content = torch.load(path, weights_only=True)
        state, moments = content["state_dict"], content["callbacks"]["SafetyCritic"]["optimizer"]["state"][0]
        for values, name in ((state, FIRST_LAYER), (moments, "exp_avg"), (moments, "exp_avg_sq")):
            values[name] = values[name][:, :-1].clone()
        torch.save(content, path)


@pytest.fixture
def old(tmp_path):
    """A run of two meta-iterations as an earlier version has left it."""
    folder = RunFolder(tmp_path / "runs/nav2d/a")
    train(folder, 2)
    write_as_before_the_trust_region_had_a_section(folder)
    assert "max_kl" in folder.config.read_text()
    assert "trust_region" not in folder.config.read_text()
    return folder


def test_it_goes_on_exactly(old, tmp_path):
    whole = RunFolder(tmp_path / "whole/nav2d/a")
    train(whole, 3)
    train(old, 3, "inner.max_kl=0.2")  # the experiment's own, by the name of then
    assert len(lines(old.metrics)) == 3
    ours, theirs = final_state(old.path), final_state(whole.path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "trust_region" in old.config.read_text()


def test_it_is_evaluated_and_exported(old):
    main(["evaluate", f"run={old.path}", "quiet=true"])
    assert len(lines(old.path / "evaluation.csv")) == 2 * 2 * 2  # arms, tasks, steps
    main(["export", f"ckpt={old.path}"])
    assert (old.export / "policy.onnx").exists()


def test_a_key_that_differs_is_named_as_it_is_called_now(old, capsys):
    with pytest.raises(SystemExit):
        train(old, 3, "inner.max_kl=0.5")
    assert "inner.trust_region.max_kl is 0.5 here and 0.2 there" in " ".join(capsys.readouterr().err.split())


def test_a_safety_critic_that_did_not_know_the_time_says_what_it_said_and_learns_on(old):
    write_as_before_the_safety_critic_knew_the_time(old)
    before = torch.load(old.last_checkpoint, weights_only=True)["state_dict"][FIRST_LAYER]
    module, _ = load_run(old.path)
    assert torch.equal(module.deployed, module.actor.vector())
    assert torch.equal(module.safety_critic.body[0].weight[:, :-1], before)
    assert (module.safety_critic.body[0].weight[:, -1] == 0).all()
    module.close()
    train(old, 3)
    assert (final_state(old.path)[FIRST_LAYER][:, -1] != 0).any()
    main(["evaluate", f"run={old.path}", "quiet=true"])
    main(["export", f"ckpt={old.path}"])


def test_a_run_that_explored_by_an_earlier_rule_is_refused(old, capsys):
    config = yaml.safe_load(old.config.read_text())
    config["exploration"] |= {"std": 1.0, "lr": 2.0}
    old.config.write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit):
        main(["evaluate", f"run={old.path}", "quiet=true"])
    assert "exploration.lr is from an earlier version" in " ".join(capsys.readouterr().err.split())
