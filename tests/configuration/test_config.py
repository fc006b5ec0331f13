import dataclasses
import shutil

import pytest
import yaml

from cmaml_pl.configuration import loading
from cmaml_pl.configuration.loading import (
    arms,
    conf_dir,
    experiments,
    load_experiment,
    load_stored,
    store,
    sweeps,
)
from cmaml_pl.configuration.merging import flatten
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS, TASK_FAMILIES
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError

LAYERED = ("nav2d", "point_goal", "hidden_goal_hard", "half_cheetah_direction")
"""Experiments without a base, with one, and with a base that has one; CI lays every arm over every experiment."""


@pytest.mark.parametrize("exp", experiments())
def test_every_experiment_loads_and_is_stored_as_it_is(exp, tmp_path):
    config = load_experiment(exp)
    assert config.exp == exp
    store(config, tmp_path / "config.yaml")
    assert load_stored(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.meta_iterations=7", "train.meta_iterations", 7),
        ("inner.trust_region.max_kl=1e-3", "inner.trust_region.max_kl", 1e-3),
        # as it was called before the trust region had a section of its own
        ("inner.max_kl=1e-3", "inner.trust_region.max_kl", 1e-3),
        ("inner.cost_limit=inf", "inner.cost_limit", float("inf")),
        ("inner.cost_limit=.inf", "inner.cost_limit", float("inf")),
        ("policy.hidden=[32,16]", "policy.hidden", [32, 16]),
        ("run.id=null", "run.id", None),
        # as a W&B sweep agent writes values
        ("rollout.workers=None", "rollout.workers", None),
        ("logger.group=None", "logger.group", None),
        ("outer.lr=1e-05", "outer.lr", 1e-5),
        ("policy.hidden=[32, 16]", "policy.hidden", [32, 16]),
        ("safety.dead_band=False", "safety.dead_band", False),
        ("safety.dead_band=true", "safety.dead_band", True),
        ("trainer.max_time=00:00:10:00", "trainer.max_time", "00:00:10:00"),
        ("tasks.train=33", "tasks.train", 33),
        ("logger.wandb=disabled", "logger.wandb", "disabled"),
    ],
)
def test_every_key_can_be_overridden(override, key, value):
    assert flatten(load_experiment("nav2d", [override]))[key] == value


def test_the_keys_that_others_rely_on():
    keys = flatten(load_experiment("point_goal"))
    for key in [
        "exp",
        "seed",
        "run.dir",
        "run.id",
        "run.resume",
        "train.meta_iterations",
        "train.tasks_per_batch",
        "rollout.envs_per_task",
        "rollout.horizon",
        "inner.method",
        "inner.steps",
        "inner.trust_region.max_kl",
        "inner.cost_limit",
        "outer.method",
        "outer.lr",
        "safety.eta",
        "safety.eta_lr",
        "logger.wandb",
    ]:
        assert key in keys


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.meta_iteration=3", "no key train.meta_iteration. Did you mean train.meta_iterations?"),
        ("meta_iterations=3", "Did you mean train.meta_iterations?"),
        ("trian.meta_iterations=3", "Did you mean train"),
        ("inner.max_lk=0.1", "Did you mean inner.trust_region.max_kl?"),
        ("inner.trust_region.max_lk=0.1", "Did you mean inner.trust_region.max_kl?"),
        ("train.meta_iterations=many", "train.meta_iterations has a wrong value"),
        ("train.meta_iterations=1.5", "train.meta_iterations has a wrong value"),
        ("inner.trust_region.max_kl=[1,2]", "inner.trust_region.max_kl has a wrong value"),
        ("seed=null", "seed has a wrong value"),
        ("safety.dead_band=maybe", "safety.dead_band has a wrong value"),
        ("inner.cost_limit=-1", "inner.cost_limit is -1.0, but must be at least 0"),
        ("inner.cost_limit=nan", "inner.cost_limit is nan, but must be a number"),
        ("inner.trust_region.max_kl=0", "inner.trust_region.max_kl is 0.0, but must be greater than 0"),
        ("inner.trust_region=3", "inner.trust_region is a section"),
        (
            "inner.trust_region.parameters=feet",
            "inner.trust_region.parameters is 'feet', but must be one of all, context",
        ),
        ("inner.trust_region.parameters=context", "inner.trust_region.parameters is context, but policy.context"),
        ("train.tasks_per_batch=0", "train.tasks_per_batch is 0, but must be at least 1"),
        ("train.tasks_per_batch=5000", "train.tasks_per_batch is 5000, but tasks.train offers only 1000"),
        ("train.distinct_tasks=0", "train.distinct_tasks is 0, but must be at least 1"),
        ("train.distinct_tasks=5000", "train.distinct_tasks is 5000, but tasks.train offers only 1000 tasks"),
        ("tasks.conflict=1.5", "tasks.conflict is 1.5, but must be at most 1"),
        ("rollout.horizon=0", "rollout.horizon is 0, but must be at least 1"),
        ("policy.hidden=[64,0]", "policy.hidden is [64, 0], but must be at least 1"),
        ("critic.gamma=1.1", "critic.gamma is 1.1, but must be at most 1"),
        ("inner.method=sac", "inner.method is 'sac', but must be one of"),
        ("outer.method=null", "outer.method is None, but must be one of"),
        ("tasks.family=maze", "tasks.family is 'maze', but must be one of"),
        ("logger.wandb=sometimes", "logger.wandb is 'sometimes', but must be one of auto"),
        ("inner=3", "inner is a section"),
        ("trainer=3", "trainer is a section"),
        ("horizon", "'horizon' is not an override"),
        ("=3", "'=3' is not an override"),
        ("policy.hidden=[64", "cannot be read"),
        ("train.meta_iterations.twice=3", "train.meta_iterations has a wrong value"),
    ],
)
def test_a_bad_override_names_its_key_and_says_what_is_expected(override, message):
    with pytest.raises(UserError) as error:
        load_experiment("nav2d", ["policy.context=0", override])
    assert message in str(error.value)


@pytest.mark.parametrize("exp", LAYERED)
@pytest.mark.parametrize("method", sorted(INNER_METHODS))
def test_every_experiment_takes_every_inner_method(exp, method):
    config = load_experiment(exp, [f"inner.method={method}", "inner.max_kl=0.02"])
    assert type(config.inner) is INNER_METHODS[method]
    assert config.inner.cost_limit == load_experiment(exp).inner.cost_limit


def test_another_methods_key_is_forgotten_from_a_file_but_an_error_in_an_override(tmp_path):
    assert "inner.multiplier_lr" in flatten(load_experiment("nav2d"))
    assert "inner.multiplier_lr" not in flatten(load_experiment("nav2d", ["inner.method=cpo"]))
    with pytest.raises(UserError, match=r"no key inner\.multiplier_lr"):
        load_experiment("nav2d", ["inner.method=cpo", "inner.multiplier_lr=0.1"])
    (tmp_path / "config.yaml").write_text("inner: {method: trpo_lag, stpes: 3}")
    with pytest.raises(UserError, match=r"no key inner\.stpes. Did you mean inner\.steps"):
        load_stored(tmp_path / "config.yaml", ["inner.method=cpo"])


def test_so_is_a_key_that_only_the_other_methods_section_of_the_same_name_has():
    before, after = (load_experiment("nav2d", [f"inner.method={name}"]).inner.trust_region for name in ("cpo", "p3o"))
    assert before.cg_damping == 1.0
    assert not hasattr(after, "cg_damping")
    assert after.max_kl == before.max_kl == 0.2, "what both have is kept"
    with pytest.raises(UserError, match=r"no key inner\.trust_region\.cg_damping"):
        load_experiment("nav2d", ["inner.method=p3o", "inner.trust_region.cg_damping=0.1"])


@pytest.mark.parametrize("exp", LAYERED)
@pytest.mark.parametrize("arm", arms())
def test_every_arm_can_be_laid_over_every_experiment_and_keeps_what_is_compared_alike(exp, arm, tmp_path):
    plain = load_experiment(exp)
    if arm == "oracle" and not plain.tasks.hidden_names():
        with pytest.raises(UserError, match="has no hidden parameters"):
            load_experiment(exp, ["arm=oracle"])
        return
    config = load_experiment(exp, [f"arm={arm}"])
    assert plain.arm is None
    assert config.arm == arm
    same = ("seed", "train", "rollout", "tasks", "policy", "critic", "inner.steps", "inner.max_kl", "inner.cost_limit")
    before, after = flatten(plain), flatten(config)
    assert after.pop("tasks.observe_task") == (arm == "oracle")
    assert before.pop("tasks.observe_task") is False
    assert {key: after[key] for key in after if key.startswith(same)} == {
        key: before[key] for key in before if key.startswith(same)
    }
    store(config, tmp_path / "config.yaml")
    assert load_stored(tmp_path / "config.yaml") == config


def test_the_oracle_is_cmaml_but_for_what_it_sees():
    cmaml, oracle = (flatten(load_experiment("nav2d", [f"arm={arm}"])) for arm in ("cmaml", "oracle"))
    assert {key for key in cmaml if cmaml[key] != oracle[key]} == {"arm", "tasks.observe_task"}
    assert oracle["tasks.observe_task"]


def test_an_override_is_stronger_than_the_arm_and_the_arm_than_the_experiment():
    penalty = load_experiment("nav2d", ["arm=maml_penalty"]).inner
    assert (penalty.multiplier_lr, penalty.multiplier_kp, penalty.multiplier_carry) == (0.0, 0.0, 0.0)
    assert load_experiment("nav2d", ["inner.multiplier_init=0.8", "arm=maml_penalty"]).inner.multiplier_init == 0.8
    assert load_experiment("nav2d", ["arm=maml"]).inner.method == "trpo"
    assert load_experiment("nav2d", ["arm=maml", "inner.method=cpo"]).inner.method == "cpo"
    assert load_experiment("nav2d", ["arm=null"]) == load_experiment("nav2d")
    with pytest.raises(UserError, match=r"no key inner\.multiplier_lr"):
        load_experiment("nav2d", ["arm=maml", "inner.multiplier_lr=0.1"])


def test_an_arm_may_be_a_file_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("inner: {method: cpo}\n")
    mine = load_experiment("nav2d", ["arm=mine.yaml", "seed=1"])
    assert (mine.arm, mine.inner.method) == ("mine", "cpo")
    assert load_experiment("nav2d", ["arm=cmaml_cpo", "seed=1"]) == dataclasses.replace(mine, arm="cmaml_cpo")
    (tmp_path / "maml.yaml").write_text("inner: {method: cpo}\n")
    with pytest.raises(
        UserError, match=r"arm is 'maml\.yaml', but there is an arm maml in the package: rename the file"
    ):
        load_experiment("nav2d", ["arm=maml.yaml"])
    with pytest.raises(UserError, match=r"yours\.yaml does not exist"):
        load_experiment("nav2d", ["arm=yours.yaml"])


def test_an_unknown_arm_lists_those_that_exist():
    with pytest.raises(UserError) as error:
        load_experiment("nav2d", ["arm=mmal"])
    assert "Did you mean maml?" in str(error.value)
    for arm in arms():
        assert arm in str(error.value)
    with pytest.raises(UserError, match="There is no arm '3'"):
        load_experiment("nav2d", ["arm=3"])


def test_an_unknown_experiment_lists_those_that_exist():
    with pytest.raises(UserError) as error:
        load_experiment("pointgoal")
    assert "Did you mean point_goal?" in str(error.value)
    for exp in experiments():
        assert exp in str(error.value)


def test_a_stored_configuration_that_is_no_yaml_says_which_file(tmp_path):
    (tmp_path / "config.yaml").write_text("exp: [point")
    with pytest.raises(UserError, match=r"config\.yaml is not a readable YAML file"):
        load_stored(tmp_path / "config.yaml")
    with pytest.raises(UserError, match="does not exist"):
        load_stored(tmp_path / "missing.yaml")


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf, to be spoiled."""
    folder = shutil.copytree(conf_dir(), tmp_path / "conf")
    monkeypatch.setattr(loading, "conf_dir", lambda: folder)
    return folder


def test_an_experiment_starts_from_the_settings_of_its_base(conf):
    (conf / "exp/mine.yaml").write_text("base: hidden_goal_hard\nrollout: {horizon: 77}\ntasks: {env_id: X}\n")
    mine, base = flatten(load_experiment("mine")), flatten(load_experiment("hidden_goal_hard"))
    assert {key for key in mine if mine[key] != base[key]} == {"exp", "rollout.horizon", "tasks.env_id"}
    assert "mine" in experiments()
    # what a base says of another family is left behind with it
    (conf / "exp/first.yaml").write_text("base: hidden_goal\ntasks: {test: 160, distances: [1.0, 1.1]}\n")
    (conf / "exp/mine.yaml").write_text("base: first\ntasks: {family: nav2d}\n")
    assert load_experiment("mine").tasks == TASK_FAMILIES["nav2d"](test=160)


@pytest.mark.parametrize("base", ["nowhere", "mine", "[a]"])
def test_a_base_that_is_none_is_named_with_its_file(base, conf):
    (conf / "exp/mine.yaml").write_text(f"base: {base}\n")
    with pytest.raises(UserError, match=r"mine\.yaml has base: .*, but must name one of ant_direction, cons"):
        load_experiment("mine")


def test_bases_that_lead_in_a_circle_are_refused(conf):
    (conf / "exp/mine.yaml").write_text("base: other\n")
    (conf / "exp/other.yaml").write_text("base: mine\n")
    with pytest.raises(UserError, match=r"other\.yaml has base: mine, but must name one of"):
        load_experiment("mine")


@pytest.mark.parametrize("name", sweeps())
def test_a_sweep_goes_over_values_on_both_sides_of_the_experiments_own(name):
    sweep = yaml.safe_load((conf_dir() / f"sweep/{name}.yaml").read_text())
    (exp,) = (item.removeprefix("exp=") for item in sweep["command"] if item.startswith("exp="))
    own = flatten(load_experiment(exp))
    for key, parameter in sweep["parameters"].items():
        values = parameter.get("values") or [parameter["min"], parameter["max"]]
        assert min(values) <= own[key] <= max(values), key


@pytest.mark.parametrize("registry", [INNER_METHODS, OUTER_METHODS, TASK_FAMILIES])
def test_registered_classes_are_frozen_dataclasses_that_know_their_name(registry):
    for name, cls in registry.items():
        instance = cls()
        assert name in (getattr(instance, "method", None), getattr(instance, "family", None))
        with pytest.raises(dataclasses.FrozenInstanceError):
            instance.anything = 1


def test_the_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3
