import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from tests.evaluation.test_statistics import row

from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.arms import Run
from cmaml_pl.evaluation.parts import list_parts
from cmaml_pl.evaluation.report import _flat, _join, _prepare_folder
from cmaml_pl.evaluation.statistics import compare, summarise
from cmaml_pl.evaluation.tables import comparison_table, summary_table
from cmaml_pl.evaluation.yardstick import Yardstick, estimate_scores


def make_run(path, seed=0, arm="a", random_arm="random"):
    return Run(SimpleNamespace(seed=seed), SimpleNamespace(path=path), arm, random_arm)


def test_arms_come_one_after_the_other_and_a_random_initialisation_once_a_seed():
    a0, b0, a1 = make_run(Path("a0")), make_run(Path("b0"), arm="b"), make_run(Path("a1"), seed=1)
    assert [(part.method, part.run, part.start) for part in list_parts([a0, b0, a1])] == [
        ("a", a0, "learned"),
        ("a", a1, "learned"),
        ("b", b0, "learned"),
        ("random", a0, "random"),
        ("random", a1, "random"),
    ]
    other = make_run(Path("c0"), arm="c", random_arm="random inner.method=cpo")
    assert [part.run for part in list_parts([a0, other])][2:] == [a0, other]


def test_whose_normaliser_and_critics_a_random_start_has_does_not_depend_on_the_order_of_the_runs():
    runs = [
        make_run(Path(f"{arm}{seed}"), seed, arm)
        for arm, seeds in {"maml": (0, 1), "eta_off": (0, 1), "cmaml": (0,)}.items()
        for seed in seeds
    ]
    runs.append(make_run(Path("cpo"), arm="cmaml_cpo", random_arm="random inner.method=cpo"))
    for order in itertools.permutations(runs):
        found = [(part.method, part.run.folder.path.name) for part in list_parts(order) if part.start == "random"]
        # of cmaml where there is one, else of the first arm by name; that arm's comes first
        assert found == [("random", "cmaml0"), ("random", "eta_off1"), ("random inner.method=cpo", "cpo")]


def test_an_oracle_is_measured_from_what_it_learned_alone():
    oracle, other = make_run(Path("o"), arm="oracle", random_arm=None), make_run(Path("a"))
    assert [(part.run, part.start) for part in list_parts([oracle, other])] == [
        (oracle, "learned"),
        (other, "learned"),
        (other, "random"),
    ]


def test_one_run_is_reported_in_its_own_folder_and_several_beside_them(tmp_path):
    homes = [tmp_path / name for name in ("s0", "s1")]
    for home in homes:
        home.mkdir()
        (home / "config.yaml").touch()
    runs = [make_run(home) for home in homes]
    assert _prepare_folder(runs[:1], 3, None, "test") == homes[0]
    assert _prepare_folder(runs[:1], 3, homes[0], "test") == homes[0]
    several = _prepare_folder(runs, 3, None, "test")
    assert several == tmp_path / "evaluations/s0+s1-3steps"
    assert OmegaConf.load(several / "evaluation.yaml") == {"runs": ["../../s0", "../../s1"], "steps": 3}
    (several / "evaluation.csv").touch()
    assert _prepare_folder(runs, 3, None, "test") == several  # the same again
    with pytest.raises(UserError, match="holds something else"):
        _prepare_folder(runs, 2, several, "test")
    with pytest.raises(UserError, match="holds something else"):
        _prepare_folder(runs[:1], 3, several, "test")
    with pytest.raises(UserError, match="holds something else"):
        _prepare_folder(runs, 3, homes[0], "test")
    assert _prepare_folder(runs, 3, tmp_path / "new", "test") == tmp_path / "new"
    tuning = _prepare_folder(runs[:1], 3, None, "validation")
    assert tuning == tmp_path / "evaluations/s0-3steps-validation"  # nothing of the test is overwritten
    assert OmegaConf.load(tuning / "evaluation.yaml")["split"] == "validation"


def test_a_folder_is_not_named_by_more_runs_than_a_name_can_hold():
    names = [f"20261122-1015{i:02}-s{i}-3f2a" for i in range(12)]
    assert len(_join(names)) < 60
    assert _join(names) != _join([*names[:-1], "other"])
    assert _join(names[:2]) == "+".join(names[:2])


def make_rows():
    values = {"good": (2.0, 1.0, 0), "bad": (1.0, 9.0, 1)}
    return [
        row(method, seed, task, step, **{"return": value + task / 100, "cost": cost + step, "violated": violated})
        for method, (value, cost, violated) in values.items()
        for seed in (0, 1)
        for task in range(10)
        for step in (2, 0)
    ]


def printed(table):
    console = Console(width=140)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_has_intervals_and_the_comparison_says_which_are_apart():
    text = printed(summary_table(summarise(make_rows())))
    assert "cost (limit 3)" in text
    assert "9 [9, 9]" in text
    assert "100 [100, 100]" in text
    assert "Means with 95% intervals over 2 seed(s) and 10 tasks" in text
    assert "score" not in text.lower()
    good, bad = printed(comparison_table(compare(make_rows()))).splitlines()[1:3]
    assert good.split() == ["good", "bad", "bad", "bad"]
    assert bad.split() == ["bad", "-", "-", "-"]


def test_the_table_has_the_score_and_says_what_it_is_measured_by():
    rows = make_rows()
    yardstick = Yardstick("bad", "good", 0, floor=1.0, ceiling=2.0)
    found = summarise(rows, estimate_scores(rows, yardstick))
    lines = [line.split() for line in printed(summary_table(found, yardstick)).splitlines()]
    assert lines[0][:4] == ["arm", "step", "score", "return"]
    assert lines[1][:5] == ["good", "2", "1", "[1,", "1]"]
    assert lines[4][:3] == ["0", "0", "[0,"]
    # the largest cost up to the step, not of the steps that follow: of the mean task, and of the worst
    assert [lines[i][-5:-3] for i in (1, 2)] == [["3", "(3)"], ["1", "(1)"]]
    caption = " ".join(printed(summary_table(found, yardstick)).split())
    assert (
        "0 is bad at step 0 (return 1), 1 the highest mean return within the limit, that of good at step 0 (2)"
        in caption
    )


def test_a_line_of_the_comparison_is_flat():
    line = _flat(compare(make_rows())[0])
    assert (line["method"], line["other"], line["step"], line["seeds"]) == ("good", "bad", 2, 2)
    assert line["return"] == pytest.approx(1.0)
    assert line["cost_low"] == line["cost_high"] == pytest.approx(-8.0)


def test_a_line_of_the_summary_is_flat():
    line = _flat(summarise(make_rows())[1])
    assert line["method"] == "good"
    assert line["cost"] == line["cost_low"] == line["cost_high"] == 1.0
    assert line["anytime_cost"] == line["anytime_cost_worst_task"] == 1.0
    assert line["return_low"] <= line["return"] <= line["return_high"]
    assert "returns" not in line
