"""The commands of the pages name targets, verbs, experiments, arms and keys that exist."""

import re
import shlex

import pytest
from tests.docs.reading import ROOT, TAUGHT, commands, read, spans
from website.settings import keys_of

from cmaml_pl.cli import VERBS
from cmaml_pl.configuration.loading import arms, experiments, load_experiment, sweeps
from cmaml_pl.configuration.registry import REGISTRIES
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError
from cmaml_pl.usage import VERB_KEYS

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):.*## ", MAKEFILE, flags=re.MULTILINE))
VARIABLES = set(re.findall(r"\$\((\w+)\)", MAKEFILE))
KEYS = set(keys_of(Config())) | {
    f"{section}.{name}"
    for section, registry in REGISTRIES.items()
    for kind in registry.own.values()
    for name in keys_of(kind())
}
KEYS |= {key.rpartition(".")[0] for key in KEYS}
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
PLACEHOLDER = re.compile(r"[A-Z_]+|\.\.\.|.*\.\.\..*|my_\w+.*|.*[:=]my_.*|.*\.yaml|")
FILES = (".safetensors", ".json", ".onnx", ".py")
EARLIER = {"critic.halves"}
"""Keys of earlier versions, of which docs/tuning.md reports."""


def check_name(name, known):
    assert PLACEHOLDER.fullmatch(name) or name in known, f"there is no {name}"


def check_training(overrides):
    """The overrides of an experiment, but those whose value the reader has to fill in."""
    request = dict(word.split("=", 1) for word in overrides if "=" in word)
    exp = request.pop("exp", "")
    check_name(exp, experiments())
    chosen = {key: value for key, value in request.items() if not PLACEHOLDER.fullmatch(value) and key != "key"}
    load_experiment(exp if exp in experiments() else "point_goal", [f"{key}={value}" for key, value in chosen.items()])


def check_verb(verb, overrides):
    check_name(verb, VERBS)
    if verb in ("train", "config"):
        check_training([word for word in overrides if word != "--help"])
    elif verb == "sweep":
        check_name(next((word.removeprefix("exp=") for word in overrides if word.startswith("exp=")), ""), sweeps())
        check_training(overrides)
    elif verb in VERBS and verb != "help":
        with pytest.raises(UserError) as refusal:
            VERBS[verb](["no_such_key=1"])
        known = str(refusal.value).partition("It takes ")[2]  # as the verb lists them, where it does
        for word in overrides if known else ():
            check_name(word.partition("=")[0], [*known.rstrip(".").split(", "), "--help"])


def check_make(words):
    for target in (word for word in words if "=" not in word):
        check_name(target, TARGETS)
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    for name in variables:
        assert name in VARIABLES, f"the Makefile has no variable {name}"
    arguments = shlex.split(variables.get("ARGS", ""))
    for name in variables.get("ARMS", "").split():
        check_name(name, arms())
    keys = {"EXP": "exp", "ARM": "arm", "CKPT": "run.resume"}
    given = [f"{keys[name]}={value}" for name, value in variables.items() if name in keys]
    if {"train", "study"} & set(words):
        own = VERB_KEYS["study"] if "study" in words else ()  # the verb's, beside those of the trainings
        check_training([*given, *(word for word in arguments if word.partition("=")[0] not in own)])
    elif words and words[0] in VERBS:
        check_verb(words[0], [*(word for word in given if word.startswith("exp=")), *arguments])


@pytest.mark.parametrize("page", TAUGHT)
def test_commands_name_what_exists(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples/own_parts")  # where the manual's commands are given
    for program, *words in commands(read(page)):
        try:
            if program == "make":
                check_make(words)
            elif words:
                check_verb(words[0], words[1:])
        except (AssertionError, UserError) as error:
            pytest.fail(f"{page}: {shlex.join([program, *words])}: {error}")


@pytest.mark.parametrize("page", TAUGHT)
def test_keys_in_the_text_exist(page):
    unknown = []
    for span in spans(read(page)):
        words = span.removeprefix('ARGS="').rstrip('"').split()
        names = [word.partition("=")[0] for word in words if re.fullmatch(r"[a-z_]+\.[a-z_.]+(=\S*)?", word)]
        if len(names) == len(words):  # it is no message, no formula and no command
            unknown += [name for name in names if name.partition(".")[0] in SECTIONS and name not in KEYS]
    assert not {name for name in unknown if not name.endswith(FILES)} - EARLIER, f"{page} names keys that do not exist"


def test_arms_in_the_text_exist():
    for page in TAUGHT:
        for span in spans(read(page)):
            for name in re.findall(r"\bARM=(\w+)", span):
                assert name in arms(), f"{page}: ARM={name}"


def test_what_does_not_exist_is_found():
    """These tests of tests find what they are to find."""
    for wrong in (
        ["triain"],
        ["train", "EXPP=nav2d"],
        ["train", "EXP=nav3d"],
        ["train", "EXP=nav2d", "ARM=camel"],
        ["train", "EXP=nav2d", "ARGS=inner.cost_limt=3"],
        ["evaluate", "ARGS=stops=3"],
        ["study", "EXP=nav2d", "ARMS=cmaml camel"],
    ):
        with pytest.raises((AssertionError, UserError)):
            check_make(wrong)
    with pytest.raises(AssertionError):
        check_verb("evalute", [])
