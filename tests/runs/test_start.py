"""How a run is started and resumed."""

import pytest
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
