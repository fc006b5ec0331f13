"""How a run is started and resumed."""

import pytest
import yaml
from tests.integration.runs import DISABLED, TINY

from cmaml_pl.cli import main
from cmaml_pl.errors import UserError
from cmaml_pl.runs.start import prepare_run


def test_a_label_is_checked_of_a_new_run_and_of_one_that_goes_on(tmp_path):
    new = ["exp=nav2d", "run.id=a", f"run.dir={tmp_path}", "quiet=true", "train.meta_iterations=1"]
    with pytest.raises(UserError, match=r"run\.label is 'a b', but may hold letters"):
        prepare_run([*new, "run.label=a b"])
    main(["train", *TINY, *DISABLED, *new])
    resumed = [f"run.resume={tmp_path / 'nav2d' / 'a'}", "train.meta_iterations=2"]
    assert prepare_run([*resumed, "run.label=ab"])[0].run.label == "ab"
    with pytest.raises(UserError, match=r"run\.label is 'a b', but may hold letters"):
        prepare_run([*resumed, "run.label=a b"])


def test_an_entry_that_was_taken_out_of_the_configuration_is_told(tmp_path):
    own = ["tasks.family=gymnasium", "tasks.env_id=Pendulum-v1", "tasks.parameters={g: [8, 10], m: [0.9, 1.1]}"]
    new = ["run.id=a", f"run.dir={tmp_path}", "quiet=true", "train.meta_iterations=1", "rollout.workers=1"]
    main(["train", "exp=nav2d", *TINY, *DISABLED, *new, *own])
    config = tmp_path / "nav2d/a/config.yaml"
    values = yaml.safe_load(config.read_text())
    del values["tasks"]["parameters"]["m"]
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"tasks\.parameters\.m is None here and \[0\.9, 1\.1\] there"):
        prepare_run([f"run.resume={tmp_path / 'nav2d' / 'a'}", "train.meta_iterations=2"])


def test_runs_of_one_name_have_wandb_runs_of_their_own(tmp_path):
    new = ["exp=nav2d", "run.id=a", f"run.dir={tmp_path}", "quiet=true", "train.meta_iterations=1"]
    ids = [prepare_run(new)[0].logger.id for _ in range(2)]
    assert len({*ids}) == 2
    assert all(name.startswith("nav2d-a-") for name in ids)
    assert prepare_run([*new, "logger.id=mine"])[0].logger.id == "mine"
    main(["train", *TINY, *DISABLED, *new])
    resumed = [f"run.resume={tmp_path / 'nav2d' / 'a'}", "train.meta_iterations=2"]
    assert prepare_run(resumed)[0].logger.id == prepare_run(resumed)[0].logger.id
