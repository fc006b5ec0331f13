"""Loads configurations from conf/ and from run folders, and stores the configuration of a run.

YAML files hold only the values that differ from the defaults of the schema. They are merged in this order, and later
files override earlier ones: base.yaml; the file of the experiment that the chosen experiment names as its `base`, if
any; the file of the chosen experiment; the file of an arm (a method in a comparison), if one is chosen. `key=value`
overrides come last.
"""

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cmaml_pl.configuration.merging import NEWER_SECTIONS, merge_layers
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.files import in_one_move
from cmaml_pl.imports import MissingCodeError

BASE = "base"
"""The key by which an experiment's file names the experiment whose settings it starts from."""

OWN = (".yaml", ".yml")
"""What an experiment, an arm or a study ends with that is a file of the user's own."""


def conf_dir() -> Path:
    """The folder of the YAML files: inside the package in a wheel, in the repository for an editable install."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"


def experiments() -> list[str]:
    """Names of the experiments in conf/exp."""
    return _names("exp")


def arms() -> list[str]:
    """Names of the arms in conf/arm: methods that can be compared with one another on any experiment."""
    return _names("arm")


def sweeps() -> list[str]:
    """Names of the W&B sweeps in conf/sweep."""
    return _names("sweep")


def studies() -> list[str]:
    """Names of the studies in conf/study."""
    return _names("study")


def _names(folder: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / folder).glob("*.yaml"))


def conf_file(folder: str, name: str) -> Path:
    """The file conf/FOLDER/NAME.yaml, or the user's own if `name` is a YAML file; FOLDER: exp, arm, sweep, study.

    Raises:
        UserError: there is no such name; the message lists the existing ones.
    """
    if name.endswith(OWN):
        return Path(name)
    kind, known = {"exp": "experiment"}.get(folder, folder), _names(folder)
    if name not in known:
        kinds = {"study": "studies"}.get(kind, f"{kind}s")
        raise UserError(f"There is no {kind} {name!r}.{did_you_mean(name, known)} The {kinds} are: {', '.join(known)}.")
    return conf_dir() / folder / f"{name}.yaml"


def load_experiment(exp: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of an experiment with overrides; the override `arm=ARM` also merges the file of that arm.

    Args:
        exp: name of an experiment in conf/exp, or a YAML file of the user's own, whose name becomes the experiment's.
        overrides: key=value; an arm, too, may be a file of the user's own.

    Raises:
        UserError: a key is unknown, has a wrong type or is out of range, or there is no such experiment or arm.
    """
    arm = find_value(parse_overrides(overrides), "arm")
    arm_layers = [] if arm is None else [read_yaml(conf_file("arm", str(arm)))]
    layers = [read_yaml(conf_dir() / "base.yaml"), *_experiment_layers(exp), *arm_layers]
    return merge_layers([*layers, DictConfig({"exp": own_name("exp", exp)})], with_own_names(overrides))


def own_name(folder: str, name: str) -> str:
    """The name of an experiment, an arm or a study that is named by itself or by a YAML file.

    Args:
        folder: exp, arm or study.
        name: the name or the file.

    Raises:
        UserError: the file's name cannot be a name, or the package has another file of this name.
    """
    if not name.endswith(OWN):
        return name
    path = Path(name)
    packaged = conf_dir() / folder / path.name
    check_name(path.stem, f"{folder} is {name!r}, but its name")
    if packaged.exists() and path.exists() and not path.samefile(packaged):
        kind = {"exp": "an experiment", "arm": "an arm"}.get(folder, f"a {folder}")
        raise UserError(f"{folder} is {name!r}, but there is {kind} {path.stem} in the package: rename the file.")
    return path.stem


def _experiment_layers(exp: str) -> list[DictConfig]:
    """The contents of the experiment's file and of the files it is based on, the deepest `base` first."""
    chain, name = [(exp, read_yaml(conf_file("exp", exp)))], None
    while name := chain[-1][1].pop(BASE, None):
        known = [other for other in experiments() if other not in dict(chain)]
        if name not in known:
            file = conf_file("exp", chain[-1][0])
            raise UserError(f"{file} has {BASE}: {name}, but must name one of {', '.join(known)}.")
        chain.append((name, read_yaml(conf_file("exp", name))))
    return [layer for _, layer in reversed(chain)]


def check_name(name: str, subject: str) -> None:
    """Raise a UserError, which begins with `subject`, if `name` cannot be that of a folder and of a W&B run."""
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise UserError(f"{subject} may hold letters, digits, '_', '-' and '.' only.")


def with_own_names(overrides: Sequence[str]) -> list[str]:
    """The overrides with the names of an experiment and an arm where they have their files."""

    def named(item: str) -> str:
        key, _, value = item.partition("=")
        return f"{key}={own_name(key, value)}" if key in ("exp", "arm") else item

    return [named(item) for item in overrides]


def store(config: Config, path: Path) -> None:
    """Write a configuration to `path`, from which `load_stored` reads it again; a crash leaves no half-written file."""
    with in_one_move(path) as scratch:
        OmegaConf.save(OmegaConf.structured(config), scratch)


def load_stored(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run has stored, with overrides.

    Raises:
        UserError: the file is missing or is no valid configuration, or an override is not valid.
    """
    try:
        stored = read_yaml(path)
        merge_layers([stored])
        for section in fields(Config):
            if section.name not in stored and section.name not in NEWER_SECTIONS:
                raise UserError(f"It ends early: it has no {section.name}.")
    except MissingCodeError:
        raise
    except UserError as error:
        raise UserError(
            f"{path} is not as a run has written it: {error} The checkpoints beside it hold its values, too, in "
            "hyper_parameters."
        ) from None
    return merge_layers([stored], overrides)


def read_yaml(path: Path) -> DictConfig:
    """The keys and values of a YAML file. OmegaConf reads 1e-5 as a number, plain PyYAML would read it as a string.

    Raises:
        UserError: the file is missing, is not readable, or does not hold keys and values.
    """
    try:
        content = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist, but a configuration was expected there.") from None
    except Exception as error:  # noqa: BLE001  (PyYAML's and OmegaConf's errors have no common parent)
        raise UserError(f"{path} is not a readable YAML file: {error}") from None
    if not isinstance(content, DictConfig):
        raise UserError(f"{path} must hold keys and values.")
    return content
