import pytest
from matplotlib.colors import is_color_like

from cmaml_pl.configuration.loading import arms, load_experiment, store
from cmaml_pl.configuration.registry import DEPLOYMENTS, INNER_METHODS, OUTER_METHODS
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.arms import open_runs
from cmaml_pl.evaluation.labels import KNOWN, MOST_DRAWN, OTHER_COLOURS, choose, find_label, find_looks

STUDY = [
    *("eta_off", "cmaml", "cmaml_cpo", "maml", "pretrain", "oracle"),
    *("random inner.method=trpo_lag", "random inner.method=cpo"),
]


def test_every_arm_of_the_configuration_has_words_and_a_colour_of_its_own():
    assert set(arms()) < set(KNOWN)
    looks = find_looks([*arms(), "random"])
    assert not {look.label for look in looks.values()} & {*arms(), "random"}
    assert len({look.colour for look in looks.values()}) == len(looks)
    colours = [*OTHER_COLOURS, *(look.colour for look in looks.values())]
    assert all(is_color_like(colour) and "red" not in colour for colour in colours)  # that is the limit's


def test_an_arm_keeps_its_colour_whatever_it_is_compared_with():
    whole = find_looks(STUDY)
    for method in ("cmaml", "maml", "oracle", "cmaml_cpo"):
        assert find_looks([method])[method] == whole[method] == find_looks(STUDY[::-1])[method]
    assert find_looks(["random"])["random"].colour == whole["random inner.method=trpo_lag"].colour
    own = "fomaml+trpo_lag outer.lr=0.1"
    assert find_looks([own])[own] == find_looks([*STUDY[:4], own])[own]


def test_labels_are_words():
    assert find_label("cmaml_cpo") == "C-MAML, CPO inside"
    assert find_label("random inner.method=trpo") == "random start, no limit inside"
    assert find_label("fomaml+trpo_lag+eta_off") == "first-order MAML + TRPO-Lagrangian + eta off"
    assert find_label("cmaml outer.lr=0.1") == "C-MAML, outer.lr=0.1"
    assert find_label("eta_off-16-tasks") == "C-MAML without eta, 16 tasks"
    assert find_label("eta_off-16-tasks outer.lr=0.1") == "C-MAML without eta, 16 tasks, outer.lr=0.1"
    assert find_label("my-arm") == "my-arm"
    assert find_label("random-x") == "random-x"  # a trained run's label
    assert find_label("random tasks.conflict=0.5") == "random start, conflict 0.5"
    assert find_label("random inner.multiplier_init=0.5") == "random start, lambda from 0.5"
    learned = "random inner.method=crpo inner.multiplier_init=None outer.radius_lr"
    assert find_label(f"{learned}=None") == "random start, CRPO inside"  # CRPO has no such keys
    assert find_label(f"{learned}=0.1") == "random start, CRPO inside, lengths learned at 0.1"
    tasks = [find_label(f"random train.distinct_tasks={number}") for number in (1, 16, None)]
    assert tasks == ["random start, 1 task", "random start, 16 tasks", "random start, all tasks"]


def test_a_trained_run_is_not_called_as_the_random_start_is(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    store(load_experiment("nav2d", ["arm=cmaml", "run.label=random"]), folder / "config.yaml")
    with pytest.raises(UserError, match=r"a is called random, .* change run\.label in its config\.yaml"):
        open_runs([folder])


def test_every_method_has_words():
    for name in INNER_METHODS.own:
        assert name not in find_label(f"fomaml+{name}").split(" + ")
        assert "inner.method" not in find_label(f"random inner.method={name}")
    for name in OUTER_METHODS.own:
        assert name not in find_label(f"{name}+cpo").split(" + ")
    for name in DEPLOYMENTS.own:
        assert "deployment.method" not in find_label(f"cmaml deployment.method={name}")


def test_a_panel_has_the_arms_that_it_needs_most():
    drawn, left = choose(STUDY)
    assert list(drawn) == ["cmaml", "oracle", "random inner.method=trpo_lag", "eta_off", "cmaml_cpo"]
    assert list(left) == ["maml", "pretrain", "random inner.method=cpo"]
    assert {**drawn, **left} == find_looks(STUDY)
    own = [f"mine x={i}" for i in range(9)]
    drawn, left = choose([*own, "cmaml"])
    assert list(drawn) == ["cmaml", *own[: MOST_DRAWN - 1]]
    assert len({look.colour for look in drawn.values()}) == MOST_DRAWN
