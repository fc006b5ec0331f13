"""Whatever is registered works with whatever else is registered, without anyone listing it."""

import math
import sys

import pytest
import torch
from tests.distribution import install

from cmaml_callbacks.metrics_csv import read_metrics
from cmaml_pl.assembly import build_datamodule, build_trainer, open_module
from cmaml_pl.configuration import registry
from cmaml_pl.configuration.loading import load_experiment, load_stored, store
from cmaml_pl.configuration.registry import INNER_METHODS, OUTER_METHODS, TASK_FAMILIES
from cmaml_pl.errors import UserError
from cmaml_pl.runs.folder import RunFolder

TINY = [
    "train.meta_iterations=2",
    "train.tasks_per_batch=2",
    "train.validate_every=2",
    "tasks.train=4",
    "tasks.validation=2",
    "tasks.test=2",
    "rollout.envs_per_task=2",
    "rollout.horizon=12",
    "inner.steps=1",
    "logger.wandb=disabled",
    # so that lambda, eta and the safety term have work
    "inner.cost_limit=0",
    "safety.dead_band=false",
    "safety.eta=0.5",
]

NEEDED = {"torchrl": ["tasks.make=examples.own_parts.point_mass:PointMass", "tasks.parameters={wind: [-0.3, 0.3]}"]}
"""Of a family that cannot do without."""

COMBINATIONS = {("trpo_lag", "fomaml", family) for family in TASK_FAMILIES} | {
    (inner, outer, "nav2d")
    for inner, adapts in INNER_METHODS.items()
    for outer, learns in OUTER_METHODS.items()
    if adapts.differentiable or not learns.differentiates
}


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(("inner", "outer", "family"), sorted(COMBINATIONS))
def test_methods_and_families_train_two_iterations_together_and_validate(inner, outer, family, tmp_path):
    choice = [f"inner.method={inner}", f"outer.method={outer}", f"tasks.family={family}", *NEEDED.get(family, [])]
    config = load_experiment("nav2d", [*TINY, *choice])
    folder = RunFolder(tmp_path)
    with open_module(config) as module:
        start = module.actor.vector()
        build_trainer(config, folder).fit(module, build_datamodule(config))
        moved = module.actor.vector()
    rows = read_metrics(folder.metrics)
    assert [row["iteration"] for row in rows] == [1, 2]
    assert all(math.isfinite(value) for row in rows for value in row.values()), rows
    assert {"post/return", "post/cost", "outer/kl", "val/post/return", "val/post/cost"} <= rows[-1].keys()
    # iterations, rollouts, tasks, worlds, steps: what an iteration costs is the same for every method
    assert rows[-1]["throughput/env_steps"] == 2 * 2 * 2 * 2 * 12
    assert moved.isfinite().all()
    assert not torch.equal(moved, start)


@pytest.mark.parametrize("inner", [name for name, method in INNER_METHODS.items() if not method.differentiable])
def test_a_step_without_a_derivative_is_refused_by_name_where_one_is_needed(inner):
    with pytest.raises(UserError, match=rf"inner.method={inner} has none: choose one of crpo, trpo, trpo_lag"):
        load_experiment("nav2d", [f"inner.method={inner}", "outer.method=maml"])


OWN = """
from dataclasses import dataclass
from cmaml_pl.deployment.mixture import Mixture
from cmaml_pl.inner.trpo_lag import TRPOLag
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.tasks.nav2d import Nav2DFamily

@dataclass(frozen=True, kw_only=True)
class Near(Nav2DFamily):
    nearness: float = 0.5

@dataclass(frozen=True, kw_only=True)
class Bold(TRPOLag):
    boldness: float = 2.0

@dataclass(frozen=True, kw_only=True)
class Brisk(FOMAML):
    briskness: float = 1.0

@dataclass(frozen=True, kw_only=True)
class Timid(Mixture):
    timidity: float = 0.5

@dataclass(frozen=True, kw_only=True)
class Odd(Nav2DFamily):
    thing: object.__class__ = complex

class NoMethod:
    pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the current folder, with a family and an inner method."""
    (tmp_path / "own_module.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield
    sys.modules.pop("own_module", None)


def test_a_family_and_a_method_of_ones_own_are_named_by_their_import_path(own, tmp_path):
    names = ["tasks.family=own_module:Near", "inner.method=own_module:Bold", "deployment.method=own_module:Timid"]
    keys = ["tasks.nearness=0.7", "inner.boldness=3", "deployment.timidity=2", "inner.cost_limit=4"]
    config = load_experiment("nav2d", [*TINY, *names, *keys])
    assert (type(config.deployment).__name__, config.deployment.timidity) == ("Timid", 2.0)
    assert (type(config.tasks).__name__, config.tasks.nearness) == ("Near", 0.7)
    assert (type(config.inner).__name__, config.inner.boldness) == ("Bold", 3.0)
    assert config.inner.multiplier_kp == load_experiment("nav2d").inner.multiplier_kp  # a file's key that both have
    store(config, tmp_path / "config.yaml")
    assert load_stored(tmp_path / "config.yaml") == config
    with pytest.raises(UserError, match=r"no key tasks\.neerness. Did you mean tasks\.nearness"):
        load_experiment("nav2d", [*names, "tasks.neerness=0.7"])


def test_a_stored_configuration_says_where_it_can_be_read(own, tmp_path, monkeypatch):
    store(load_experiment("nav2d", ["tasks.family=own_module:Near"]), tmp_path / "config.yaml")
    sys.modules.pop("own_module")
    (tmp_path / "own_module.py").unlink()
    with pytest.raises(UserError, match=r"'own_module:Near', which cannot be imported: .*run it where the module is"):
        load_stored(tmp_path / "config.yaml")


def test_a_module_that_fails_is_told_with_the_place(own, tmp_path):
    (tmp_path / "faulty_module.py").write_text("import math\nmath.nothing\n")
    with pytest.raises(UserError, match=r"AttributeError: .*'nothing' \(faulty_module\.py, line 2\)"):
        load_experiment("nav2d", ["tasks.family=faulty_module:Near"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nav2d.yaml", r"exp is 'nav2d\.yaml', but there is an experiment nav2d in the package: rename the file"),
        ("my exp.yaml", r"exp is 'my exp\.yaml', but its name may hold letters"),
        ("mine.yaml", r"mine\.yaml does not exist"),
    ],
)
def test_an_experiment_in_a_file_needs_a_name_of_its_own(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name != "mine.yaml":
        (tmp_path / name).write_text("base: nav2d\n")
    with pytest.raises(UserError, match=message):
        load_experiment(name)


@pytest.fixture
def installed(own, tmp_path, monkeypatch):
    """The module as an installed package that offers its classes under names of their own."""
    names = {"task_families": "Near", "inner_methods": "Bold", "outer_methods": "Brisk", "deployments": "Timid"}
    points = {f"cmaml_pl.{group}": {name.lower(): f"own_module:{name}"} for group, name in names.items()}
    install(tmp_path / "site", "own", points)
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry._offered.cache_clear()
    yield
    registry._offered.cache_clear()


def test_installed_packages_offer_classes_under_a_name(installed):
    names = ["tasks.family=near", "inner.method=bold", "outer.method=brisk", "deployment.method=timid"]
    config = load_experiment("nav2d", [*names, "tasks.nearness=0.7", "outer.briskness=2"])
    kinds = [type(section).__name__ for section in (config.tasks, config.inner, config.outer, config.deployment)]
    assert kinds == ["Near", "Bold", "Brisk", "Timid"]
    assert (config.tasks.nearness, config.outer.briskness) == (0.7, 2.0)
    assert "near" in TASK_FAMILIES
    with pytest.raises(UserError, match=r"must be one of constraint, .*, near, or your own MODULE:CLASS"):
        load_experiment("nav2d", ["tasks.family=neer"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.family=nowhere:Near", r"tasks\.family is 'nowhere:Near', .* No module named 'nowhere'"),
        ("tasks.family=own_module:Far", r"tasks\.family is 'own_module:Far', .* no attribute 'Far'"),
        ("inner.method=own_module:Near", r"inner\.method is 'own_module:Near', but must .* inherits from InnerMethod"),
        ("outer.method=own_module:NoMethod", r"outer\.method is .*, but must be a dataclass .* from OuterMethod"),
        ("tasks.family=own_module:Odd", r"tasks\.family is 'own_module:Odd', whose fields cannot be keys"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(override, message, own):
    with pytest.raises(UserError, match=message):
        load_experiment("nav2d", [override])
