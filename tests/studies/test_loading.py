import itertools
from collections import defaultdict

import pytest
from omegaconf import OmegaConf

from cmaml_pl.configuration.loading import load_stored, store, studies
from cmaml_pl.errors import UserError
from cmaml_pl.evaluation.arms import arm_label
from cmaml_pl.runs.start import prepare_run
from cmaml_pl.studies.definition import Claim
from cmaml_pl.studies.loading import load_studies
from cmaml_pl.studies.training import list_trainings


def load(overrides=(), **request):
    return load_studies(OmegaConf.create(request), list(overrides))


@pytest.mark.parametrize("name", studies())
def test_every_study_of_the_package_is_sound_and_claims_something(name):
    (study,) = load(study=name)
    assert study.name == name
    assert len(study.seeds) >= 5  # with three, few claims of several can be decided
    assert study.claims
    assert study.question
    assert study.command == f"cmaml study study={name}"


def test_studies_of_the_package_that_share_a_run_train_it_alike():
    runs = defaultdict(list)
    for study in load(study="all"):
        for arm, seed in itertools.product(study.arms, study.seeds):
            runs[study.exp, arm.name, seed].append([arm.arm, *study.settings(arm)])
    assert max(map(len, runs.values())) > 2
    assert all(overrides == found[0] for found in runs.values() for overrides in found)


def test_a_command_makes_a_study_of_its_own_and_its_defaults():
    (study,) = load(["tasks.train=30"], exp="nav2d", arms=["cmaml", "maml"], seeds=4)
    assert (study.labels, study.seeds, study.steps, study.claims) == (["cmaml", "maml"], [4], 3, [])
    assert str(study.folder) == "runs/nav2d/study-cmaml-maml"
    assert study.command == "cmaml study exp=nav2d 'arms=[cmaml,maml]' 'seeds=[4]' tasks.train=30"
    assert len(load(exp="nav2d")[0].arms) == 7
    assert load(exp="nav2d", arms="maml")[0].name == "maml"


def test_a_command_is_stronger_than_the_file_and_claims_about_arms_that_it_leaves_out_are_dropped():
    (study,) = load(["tasks.train=1300"], study="nav2d", arms=["cmaml", "pretrain"], seeds=[1, 2])
    assert study.seeds == [1, 2]
    assert study.config(study.arms[0]).tasks.train == 1300
    assert [claim.against for claim in study.claims] == ["random", "pretrain", "limit"]


def test_a_claim_against_what_is_published_takes_its_number_and_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "exp: nav2d\n"
        "claims: [{arm: cmaml, against: published safemeta, step: 1}, {arm: cmaml, against: published Other}]\n"
        "published:\n"
        "  - {method: safemeta, source: a table, returns: {0: -2, 1: -1}}\n"
        "  - {method: Other, source: b, returns: {3: 5}}"
    )
    (study,) = load(study="mine.yaml")
    assert [(claim.against, claim.source) for claim in study.claims] == [(-1, "SafeMeta, a table"), (5, "Other, b")]


def test_claims_beyond_the_steps_of_a_command_are_dropped_and_counted():
    whole, short = load(study="nav2d")[0], load(study="nav2d", steps=3)[0]
    assert (short.steps, short.left_out, whole.left_out) == (3, 1, 0)
    assert short.claims == [claim for claim in whole.claims if claim.step <= 3]
    assert all(study.steps == 3 for study in load(study="all", steps=3))


def test_claims_about_the_arms_that_a_file_has_by_default_are_dropped_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("exp: nav2d\nclaims: [{arm: maml, against: 1}, {arm: cmaml, against: 1}]")
    (study,) = load(study="mine.yaml", arms=["cmaml"])
    assert ([claim.arm for claim in study.claims], study.left_out) == (["cmaml"], 1)


def test_a_key_that_one_method_lacks_is_told_with_its_arm():
    with pytest.raises(UserError, match=r"^arm safemeta: There is no key outer\.passes"):
        load(["outer.passes=1"], exp="nav2d", arms=["cmaml", "safemeta"])
    with pytest.raises(UserError, match=r"^There is no key outer\.pases"):
        load(["outer.pases=1"], exp="nav2d", arms=["cmaml", "maml"])


@pytest.mark.parametrize("name", ["random", "meta_policy", "limit", "published"])
def test_an_arm_has_no_name_that_a_claim_understands_otherwise(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.yaml").write_text("inner: {steps: 2}")
    with pytest.raises(UserError, match=f"arms of the study has {name}, .*rename the file"):
        load(exp="nav2d", arms=["cmaml", f"{name}.yaml"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("claims: [{arm: cmaml, against: [maml]}]", r"claims\[0\]\.against is \['maml'\]"),
        ("claims: [{arm: cmaml, against: {a: 1}}]", r"claims\[0\]\.against is \{'a': 1\}"),
        ("arms: 3", r"arms of mine\.yaml has a wrong value"),
    ],
)
def test_a_file_is_checked_also_where_the_command_sets_the_arms(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"exp: nav2d\n{content}")
    with pytest.raises(UserError, match=message):
        load(study="mine.yaml", arms=["cmaml"])


def test_a_quick_study_is_small_and_keeps_away_from_the_runs_of_the_real_one():
    (study,) = load(study="nav2d", scale="quick")
    config = study.config(study.arms[0])
    assert study.trial
    assert (study.seeds, study.steps, config.train.meta_iterations, config.tasks.test) == ([105, 106], 3, 2, 4)
    assert str(study.folder) == "runs/quick/nav2d/study-nav2d"
    assert max(claim.step for claim in study.claims) == 3


def test_a_file_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("exp: nav2d\narms: [cmaml]\nclaims: [{arm: cmaml, against: -1e2}]")
    (study,) = load(study="mine.yaml")
    assert (study.name, study.seeds) == ("mine", [0, 1, 2])
    assert study.claims == [Claim("cmaml", "return", "higher", -100.0)]
    (tmp_path / "nav2d.yaml").write_text("exp: nav2d")
    with pytest.raises(UserError, match="there is a study nav2d in the package: rename the file"):
        load(study="nav2d.yaml")


LABELLED = """
exp: nav2d
arms:
  - cmaml
  - {arm: cmaml, label: cmaml-4-tasks, overrides: [train.distinct_tasks=4]}
  - {arm: eta_off, label: eta_off-4-tasks, overrides: [train.distinct_tasks=4]}
overrides: [tasks.train=1400]
claims:
  - {arm: cmaml-4-tasks, quantity: critic_error, direction: lower, against: cmaml}
  - {arm: cmaml, against: eta_off-4-tasks}
"""


def test_arms_of_a_file_have_labels_and_overrides_and_a_command_names_them_by_their_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(LABELLED)
    (study,) = load(study="mine.yaml")
    assert study.labels == ["cmaml", "cmaml-4-tasks", "eta_off-4-tasks"]
    plain, four, eta_off = (study.config(arm) for arm in study.arms)
    assert (plain.train.distinct_tasks, four.train.distinct_tasks, eta_off.train.distinct_tasks) == (None, 4, 4)
    assert [config.arm for config in (plain, four, eta_off)] == ["cmaml", "cmaml", "eta_off"]
    assert [arm_label(config) for config in (plain, four, eta_off)] == study.labels
    assert (four.tasks.train, eta_off.safety.eta_lr) == (1400, 0.0)
    trainings = list_trainings(study, jobs=1)
    assert [training.run_id for training in trainings[:3]] == ["cmaml-s0", "cmaml-4-tasks-s0", "eta_off-4-tasks-s0"]
    assert prepare_run(trainings[1].arguments)[0].train.distinct_tasks == 4
    (some,) = load(study="mine.yaml", arms=["cmaml-4-tasks", "cmaml"])
    assert (some.arms, some.left_out) == ([study.arms[1], study.arms[0]], 1)
    with pytest.raises(
        UserError, match=r"no arm 'cmaml-4-taks'\. Did you mean cmaml-4-tasks\? mine\.yaml has the arms cmaml"
    ):
        load(study="mine.yaml", arms=["cmaml-4-taks"])


def test_an_arm_without_a_label_keeps_its_overrides_where_a_command_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("inner: {steps: 2}")
    changed = "{arm: cmaml, overrides: [outer.lr=1e-4]}, {arm: own.yaml, overrides: [outer.lr=2e-4]}"
    (tmp_path / "mine.yaml").write_text(f"exp: nav2d\narms: [maml, {changed}]")
    (study,) = load(study="mine.yaml", arms=["own.yaml", "cmaml", "pretrain"])
    assert study.labels == ["own", "cmaml", "pretrain"]
    assert [arm.overrides for arm in study.arms] == [["outer.lr=2e-4"], ["outer.lr=1e-4"], []]
    own = {"arm": "cmaml", "overrides": ["outer.lr=3e-4"]}
    assert load(study="mine.yaml", arms=[own])[0].arms[0].overrides == ["outer.lr=3e-4"]  # the command's own


def test_a_key_of_a_command_that_an_arm_sets_itself_is_told():
    with pytest.raises(UserError, match=r"^train\.distinct_tasks is set by arm cmaml-1-task of the study: .*asks=1\."):
        load(["train={distinct_tasks: 8}"], study="number_of_tasks", arms=["cmaml-1-task"])
    (study,) = load(["train.distinct_tasks=1"], study="number_of_tasks", arms=["cmaml-1-task"])
    assert study.config(study.arms[0]).train.distinct_tasks == 1
    assert load(["inner.multiplier_kp=0.3"], study="multiplier", arms=["cmaml"])  # the arms that set it are left out


def test_a_quick_study_is_small_also_where_an_arm_sets_its_own_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long = "{arm: cmaml, label: long, overrides: [train.meta_iterations=1000]}"
    overrides = "[run.dir=here, rollout.horizon=90]"
    (tmp_path / "mine.yaml").write_text(f"exp: nav2d\narms: [cmaml, {long}]\noverrides: {overrides}")
    (study,) = load(study="mine.yaml", scale="quick")
    configs = [prepare_run(training.arguments)[0] for training in list_trainings(study, jobs=1)[:2]]
    assert [config.train.meta_iterations for config in configs] == [2, 2]
    assert [(config.run.dir, config.tasks.test) for config in configs] == [("here/quick", 4)] * 2
    assert [config.rollout.horizon for config in configs] == [50, 50]


@pytest.mark.parametrize("label", ["1e3", "007", "true", "null"])
def test_a_label_that_yaml_reads_as_something_else_stays_as_it_is(label, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"exp: nav2d\narms: [{{arm: cmaml, label: '{label}'}}]")
    (study,) = load(study="mine.yaml")
    config, folder, _ = prepare_run(list_trainings(study, jobs=1)[0].arguments)
    store(config, tmp_path / "config.yaml")
    stored = load_stored(tmp_path / "config.yaml")
    assert (arm_label(config), arm_label(stored), folder.path.name) == (label, label, f"{label}-s0")


BAD = {
    "arms: [cmaml]": r"mine\.yaml needs exp\.",
    "exp: nav2d\narmz: [cmaml]": r"no key armz\. Did you mean arms\?",
    "exp: nav2d\ntrial: true": "no key trial",
    "exp: nva2d": r"no experiment 'nva2d'\. Did you mean nav2d\?",
    "exp: nav2d\narms: [mmal]": r"no arm 'mmal'\. Did you mean maml\?",
    "exp: nav2d\narms: [own.yaml]": r"own\.yaml does not exist",
    "exp: nav2d\narms: [3]": r"arms\[0\] of mine\.yaml has a wrong value",
    "exp: nav2d\narms: [{label: a}]": r"needs arms\[0\]\.arm",
    "exp: nav2d\narms: [{arm: cmaml, lable: a}]": r"no key lable\. Did you mean label\? There are arm, label",
    "exp: nav2d\narms: [{arm: cmaml, label: a b}]": r"A label in arms of mine\.yaml is 'a b', but may hold letters",
    "exp: nav2d\narms: [cmaml, {arm: cmaml, overrides: [outer.lr=1]}]": r"is \['cmaml', 'cmaml'\].* a label of its own",
    "exp: nav2d\narms: [{arm: cmaml, overrides: [seed=1]}]": "seed cannot be set in a study",
    "exp: nav2d\narms: [{arm: cmaml, overrides: [exp=point_goal]}]": "exp cannot be set in a study",
    "exp: nav2d\narms: [{arm: cmaml, overrides: [run.dir=a]}]": r"run\.dir is set by arm cmaml of mine\.yaml, but",
    "exp: nav2d\narms: [{arm: cmaml, overrides: ['run={dir: a}']}]": r"run\.dir is set by arm cmaml",
    "exp: nav2d\narms: [maml, {arm: cmaml, label: a, overrides: [trian.x=1]}]": r"^arm a: .*Did you mean train",
    "exp: nav2d\noverrides: [run.label=a]": r"run\.label cannot be set in a study",
    "exp: nav2d\narms: cmaml": r"arms of mine\.yaml has a wrong value",
    "exp: nav2d\nseeds: [a]": r"seeds\[0\] of mine\.yaml has a wrong value",
    "exp: nav2d\nseeds: [-1]": r"seeds is \[-1\], but must be at least 0",
    "exp: nav2d\nseeds: [1, 1]": r"seeds of mine\.yaml is \[1, 1\], but must name one or several, each once",
    "exp: nav2d\nseeds: []": "must name one or several",
    "exp: nav2d\nsteps: 0": "steps is 0, but must be at least 1",
    "exp: nav2d\noverrides: [seed=1]": "seed cannot be set in a study",
    "exp: nav2d\noverrides: [trian.seed=1]": "Did you mean train",
    "exp: nav2d\noverrides: {tasks: 1}": "has a wrong value",
    "exp: nav2d\nclaims: [3]": r"claims\[0\] of mine\.yaml has a wrong value",
    "exp: nav2d\nclaims: [{against: limit}]": r"needs claims\[0\]\.arm",
    "exp: nav2d\nclaims: [{arm: cmaml, agianst: maml}]": r"no key .*agianst\. Did you mean against\?",
    "exp: nav2d\nclaims: [{arm: cmaml, quantity: retrun}]": "quantity is 'retrun', but must be one of return, cost",
    "exp: nav2d\nclaims: [{arm: cmaml, direction: up}]": "direction is 'up', but must be one of higher, lower",
    "exp: nav2d\nclaims: [{arm: cmaml, smallest_effect: -1}]": "smallest_effect is -1",
    "exp: nav2d\nclaims: [{arm: oracle, against: maml}]": r"arm is 'oracle'\..* The study has the arms cmaml",
    "exp: nav2d\nclaims: [{arm: cmaml}]": "against is None",
    "exp: nav2d\nclaims: [{arm: cmaml, against: cmaml}]": "against is 'cmaml'",
    "exp: nav2d\nclaims: [{arm: cmaml, against: pretrian}]": r"Did you mean pretrain\? It is a number or one of",
    "exp: nav2d\nclaims: [{arm: cmaml, against: maml, step: 4}]": "step is 4, but the study has 3 steps",
    "exp: nav2d\nclaims: [{arm: cmaml, against: limit}]": "limit, which is one of costs: return has none",
    "exp: nav2d\nclaims: [{arm: cmaml, against: meta_policy, step: 0}]": "meta_policy, which is step 0",
    "exp: nav2d\nclaims: [{arm: cmaml, against: maml, quantity: score}]": "score, which needs the arm oracle",
    "exp: nav2d\narms: [cmaml, {arm: maml, label: strict, overrides: [inner.cost_limit=1]}]": (
        r"cmaml and strict cannot be compared: inner\.cost_limit is 3\.0 in the one and 1\.0"
    ),
    "exp: nav2d\nclaims: [{arm: cmaml, against: published maml}]": r"What the study has as published: none\.",
    "exp: nav2d\npublished: [{method: maml, source: a, return: {0: 1}}]": r"no key .*return\. Did you mean returns\?",
    "exp: nav2d\npublished: [{method: maml, source: a}]": r"needs published\[0\]\.returns",
    "exp: nav2d\npublished: [{method: maml, source: a, returns: {}}]": r"published\[0\]\.returns of mine\.yaml is \{\}",
    "exp: nav2d\npublished: [{method: maml, source: a, returns: {-1: 2}}]": r"must give returns by adaptation steps",
    "exp: nav2d\npublished: [{method: a b, source: a, returns: {0: 1}}]": r"\[0\]\.method of mine\.yaml is 'a b'",
    "exp: nav2d\npublished: [{method: maml, source: a, returns: {0: b}}]": r"of mine\.yaml has a wrong value",
    "exp: nav2d\npublished: [{method: a, source: b, returns: {0: 1}}]\nclaims: [{arm: cmaml, against: published a}]": (
        r"claims\[0\] is about the return at step 3, but published of a are returns at steps 0\."
    ),
    "- nav2d": r"mine\.yaml must hold keys and values",
}


@pytest.mark.parametrize("content", BAD)
def test_a_bad_file_is_told_with_its_key_before_anything_is_started(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError, match=BAD[content]):
        load(study="mine.yaml")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "study takes study=NAME, one of .*half_cheetah_velocity"),
        ({"study": "nva2d"}, r"There is no study 'nva2d'\. Did you mean nav2d\? The studies are:"),
        ({"study": ["nav2d", "point_goal"], "exp": "nav2d"}, "exp cannot be set for several studies"),
        ({"study": []}, "study is \\[\\], but must name one or several"),
        ({"study": "nowhere.yaml"}, "nowhere.yaml does not exist"),
    ],
)
def test_a_bad_request_is_told(request_, message):
    with pytest.raises(UserError, match=message):
        load(**request_)
