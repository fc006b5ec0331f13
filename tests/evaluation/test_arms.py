import pytest

from cmaml_pl.configuration.loading import load_experiment, store
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.arms import SEES_THE_TASK, arm_label, distinguish, open_runs
from cmaml_pl.evaluation.parts import list_parts
from cmaml_pl.evaluation.report import _find_yardstick


def save_run(folder, *overrides):
    folder.mkdir(parents=True)
    store(load_experiment("nav2d", [f"run.id={folder.name}", *overrides]), folder / "config.yaml")
    return folder


def test_seeds_of_a_method_are_one_arm_and_what_does_not_change_the_method_is_left_aside(tmp_path):
    runs = open_runs(
        [
            save_run(tmp_path / "a", "seed=0"),
            save_run(tmp_path / "b", "seed=1", "logger.wandb=offline", "trainer.max_time=00:01:00:00"),
            save_run(tmp_path / "c", "seed=0", "safety.eta=0", "safety.eta_lr=0"),
        ]
    )
    assert [run.arm for run in runs] == ["fomaml+trpo_lag", "fomaml+trpo_lag", "fomaml+trpo_lag+eta_off"]
    assert [run.random_arm for run in runs] == ["random"] * 3


def test_runs_that_would_have_one_name_are_told_apart_by_what_differs(tmp_path):
    runs = open_runs(
        [
            save_run(tmp_path / "a", "outer.lr=0.1", "train.meta_iterations=5"),
            save_run(tmp_path / "b", "outer.lr=0.2", "train.meta_iterations=5"),
            save_run(tmp_path / "c", "outer.lr=0.2", "train.meta_iterations=5", "seed=3", "arm=cmaml"),
            save_run(
                tmp_path / "d", "outer.lr=0.2", "train.meta_iterations=5", "seed=4", "inner.trust_region.max_kl=0.5"
            ),
        ]
    )
    assert [run.arm for run in runs] == [
        "fomaml+trpo_lag inner.trust_region.max_kl=0.2 outer.lr=0.1",
        "fomaml+trpo_lag inner.trust_region.max_kl=0.2 outer.lr=0.2",
        "cmaml",
        "fomaml+trpo_lag inner.trust_region.max_kl=0.5 outer.lr=0.2",
    ]
    # a random initialisation depends on how it adapts, not on the meta-training
    assert [run.random_arm for run in runs] == ["random inner.trust_region.max_kl=0.2"] * 3 + [
        "random inner.trust_region.max_kl=0.5"
    ]


@pytest.mark.parametrize(
    "override",
    [
        "critic.shared_reward=false",
        "critic.passes=7",
        "train.tasks_per_batch=10",
        "train.distinct_tasks=3",
        "outer.radius_lr=0.3",
        "policy.init_log_std=-1",
    ],
)
def test_random_initialisations_are_told_apart_by_all_that_they_take_from_a_run(override, tmp_path):
    key, value = override.split("=")
    plain, same = save_run(tmp_path / "a", "arm=cmaml"), save_run(tmp_path / "b", "arm=eta_off")
    assert {run.random_arm for run in open_runs([plain, same])} == {"random"}
    other = save_run(tmp_path / "c", "arm=eta_off", override)
    first, second = (run.random_arm for run in open_runs([plain, other]))
    assert first.startswith(f"random {key}=")
    assert second.lower().startswith(f"random {key}={value}")
    assert first != second


def test_an_oracle_is_compared_with_others_but_gives_no_random_start(tmp_path):
    oracle, cmaml = (save_run(tmp_path / arm, f"arm={arm}") for arm in ("oracle", "cmaml"))
    unnamed = save_run(tmp_path / "x", "tasks.observe_task=true")
    plain = save_run(tmp_path / "y")
    runs = open_runs([oracle, cmaml, unnamed, plain])
    assert [run.arm for run in runs[:2]] == ["oracle", "cmaml"]
    assert [run.arm for run in runs[2:]] == [f"fomaml+trpo_lag {SEES_THE_TASK}={seen}" for seen in (True, False)]
    assert [run.is_oracle for run in runs] == [True, False, True, False]
    assert [run.random_arm for run in runs] == [None, "random", None, "random"]


def test_degrees_of_conflict_are_compared_but_not_with_tasks_without_one(tmp_path):
    saved = [save_run(tmp_path / f"c{i}", "arm=cmaml", f"tasks.conflict={i}") for i in (0, 1)]
    runs = open_runs(saved)
    assert [run.arm for run in runs] == ["cmaml tasks.conflict=0.0", "cmaml tasks.conflict=1.0"]
    assert [run.random_arm for run in runs] == ["random tasks.conflict=0.0", "random tasks.conflict=1.0"]
    oracle = save_run(tmp_path / "oracle", "arm=oracle", "tasks.conflict=1")
    yardstick, lines = _find_yardstick(list_parts(open_runs([oracle, saved[0]])), [])
    assert (yardstick, lines) == (None, ["no score: the runs differ in tasks.conflict, and with it in what costs"])
    plain = save_run(tmp_path / "plain", "arm=cmaml")
    with pytest.raises(UserError, match=r"cannot be compared: tasks\.conflict is 0\.0 in the one and None"):
        open_runs([saved[0], plain])


def test_a_run_deployed_in_another_way_as_well_is_one_more_arm_of_the_same_random_start(tmp_path):
    paths = [save_run(tmp_path / arm, f"arm={arm}") for arm in ("cmaml", "cmaml_mixture")]
    runs = open_runs(paths, ["deployment.method=mixture"])
    assert [run.arm for run in runs] == [
        "cmaml deployment.method=adapted",
        "cmaml_mixture",
        "cmaml deployment.method=mixture",
    ]
    assert runs[2].folder.path == paths[0]
    assert {run.random_arm for run in runs} == {"random"}
    stricter = open_runs(paths[1:], ["deployment.delta=0.01"])
    assert [run.arm for run in stricter] == [f"cmaml_mixture deployment.delta={delta}" for delta in (0.1, 0.01)]


def test_names_of_methods_come_before_other_keys():
    settings = [{"a": 1, "inner.method": "cpo"}, {"a": 2, "inner.method": "trpo"}]
    assert distinguish(["x", "x"], settings) == ["x inner.method=cpo", "x inner.method=trpo"]
    assert distinguish(["x", "y"], settings) == ["x", "y"]
    assert distinguish(["x", "x"], [{"a": [1]}, {"a": [1]}]) == ["x", "x"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.horizon=20", "rollout.horizon is 50 in the one and 20 in the other"),
        ("inner.cost_limit=9", "inner.cost_limit is 3.0 in the one and 9.0"),
        ("tasks.train=30", "tasks.train is 1000 in the one and 30"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, override, message):
    paths = [save_run(tmp_path / "a"), save_run(tmp_path / "b", override)]
    with pytest.raises(UserError, match=message):
        open_runs(paths)


def test_a_run_given_twice_is_refused(tmp_path):
    path = save_run(tmp_path / "a")
    with pytest.raises(UserError, match="the same method with the same seed"):
        open_runs([path, path])


def test_a_run_is_called_what_it_was_trained_as():
    assert arm_label(load_experiment("nav2d", ["arm=eta_off"])) == "eta_off"
    assert arm_label(load_experiment("nav2d")) == "fomaml+trpo_lag"
    assert arm_label(load_experiment("nav2d", ["safety.eta_lr=0", "inner.method=cpo"])) == "fomaml+cpo+eta_off"
