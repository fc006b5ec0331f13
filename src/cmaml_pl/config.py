"""Configuration: every default, with its unit and source, and how an experiment is loaded.

YAML files hold only what differs from these defaults: base.yaml, then the experiment's, then that of an arm of a
comparison, if one is asked for; `key=value` overrides come last. The sections `tasks`, `inner`
and `outer` are the fields of the family and methods that `tasks.family`, `inner.method` and `outer.method` name.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cmaml_pl.bounds import bounded, check_bounds
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.files import in_one_move
from cmaml_pl.outer.safety import WEIGHTS
from cmaml_pl.registry import INNER_METHODS, OUTER_METHODS, TASK_FAMILIES


@dataclass(frozen=True)
class RunConfig:
    """Where a run lives: `dir`/EXP/`id`."""

    dir: str = "runs"
    id: str | None = None  # a new one from the date, the seed and four random letters
    resume: str | None = None  # a checkpoint or run folder to go on from, or auto: the folder of `id` if it has begun
    torch_threads: int = bounded(1, low=1)  # of updates; 64 units leave nothing to share, and digits depend on it


@dataclass(frozen=True)
class TrainConfig:
    """The length of meta-training and what happens along it, counted in meta-iterations."""

    meta_iterations: int = bounded(100, low=1)  # total: a resumed run goes on up to it
    tasks_per_batch: int = bounded(8, low=1)  # B
    validate_every: int = bounded(10, low=1)
    # Meta-iterations in a row that may be dropped, for numbers that are not finite, before the run stops. The policy
    # stays as it was, so that only the draws of tasks and noise differ from one to the next: where chance spoils every
    # second one, ten in a row are one in a thousand, and each costs as much time as a good one.
    max_dropped: int = bounded(10, low=1)


@dataclass(frozen=True)
class RolloutConfig:
    """Experience of one task in one rollout: `envs_per_task` episodes of `horizon` steps."""

    envs_per_task: int = bounded(4, low=1)
    horizon: int = bounded(1000, low=1)  # H; Safety-Gymnasium's own
    workers: int | None = bounded(None, low=1)  # threads or processes that step the worlds; one a core


@dataclass(frozen=True)
class PolicyConfig:
    """The Gaussian actor."""

    hidden: list[int] = bounded([64, 64], low=1)  # tanh layers (OmniSafe)
    init_log_std: float = -0.5  # (OmniSafe)


@dataclass(frozen=True)
class CriticConfig:
    """The reward critic and the safety critic."""

    hidden: list[int] = bounded([64, 64], low=1)  # tanh layers (OmniSafe)
    shared_reward: bool = True  # tasks share a reward critic, which each corrects; if not, each fits its own alone
    gamma: float = bounded(0.99, low=0, high=1)  # discount of the reward (OmniSafe)
    cost_gamma: float = bounded(0.99, low=0, high=1)  # discount of the cost (OmniSafe)
    gae_lambda: float = bounded(0.95, low=0, high=1)  # (OmniSafe)
    ridge: float = bounded(0.03, above=0)  # of each task's linear correction; chosen, not tuned
    lr: float = bounded(1.0e-3, above=0)  # Adam (OmniSafe)
    passes: int = bounded(10, low=1)  # over a meta-iteration's data (OmniSafe)
    minibatch: int = bounded(1024, low=1)  # samples; larger than OmniSafe's 128, for speed


@dataclass(frozen=True)
class SafetyConfig:
    """The safety term of the outer update, w(eta) grad E[log pi A_C], and its multiplier eta."""

    eta: float = bounded(0.0, low=0)  # first value
    eta_lr: float = bounded(0.01, low=0)  # per unit of episode cost; 0 keeps eta as it is
    eta_max: float = bounded(2.0, low=0)  # largest eta; at 16 a policy on PointGoal1 stopped moving
    weighting: str = bounded("ratio", choices=WEIGHTS)  # w(eta) = eta / (1 + eta), or "raw": eta
    dead_band: bool = False  # act only while the meta-policy costs more than the limit
    log_std: bool = False  # whether the term moves the exploration noise as well


@dataclass(frozen=True)
class LoggerConfig:
    """Weights & Biases."""

    wandb: str = bounded("auto", choices=("auto", "offline", "online", "disabled"))  # auto: online where a key is
    entity: str | None = None  # a team or user; W&B's own default
    project: str = "cmaml_pl"
    id: str | None = None  # of the W&B run; `exp`-`run.id`, or what a sweep agent gives
    group: str | None = None


@dataclass(frozen=True)
class Config:
    """A whole experiment."""

    exp: str = "point_goal"
    arm: str | None = None  # of a comparison: the name of the file in conf/arm that is laid over the experiment
    seed: int = bounded(0, low=0)
    quiet: bool = False  # no progress and no tables on the terminal; warnings and errors all the same
    run: RunConfig = field(default_factory=RunConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    tasks: Any = None  # a TaskFamily
    inner: Any = None  # an InnerMethod
    outer: Any = None  # an OuterMethod
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    trainer: dict[str, Any] = field(default_factory=dict)  # goes to Lightning's Trainer as it is


SECTIONS = {
    "tasks": ("family", TASK_FAMILIES, "layout"),
    "inner": ("method", INNER_METHODS, "trpo_lag"),
    "outer": ("method", OUTER_METHODS, "fomaml"),
}
"""Sections whose fields depend on one of their keys: that key, its registry, its default."""


def conf_dir() -> Path:
    """The folder of the YAML files: beside the package in a wheel, the repository's in an editable install."""
    here = Path(__file__).resolve().parent
    packaged = here / "conf"
    return packaged if packaged.is_dir() else here.parents[1] / "conf"


def experiments() -> list[str]:
    """Names of the experiments in conf/exp."""
    return sorted(path.stem for path in (conf_dir() / "exp").glob("*.yaml"))


def arms() -> list[str]:
    """Names of the arms in conf/arm: the methods that are compared with one another, on any experiment."""
    return sorted(path.stem for path in (conf_dir() / "arm").glob("*.yaml"))


def sweeps() -> list[str]:
    """Names of the W&B sweeps in conf/sweep."""
    return sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml"))


def load(exp: str, overrides: Sequence[str] = ()) -> Config:
    """Read conf/base.yaml, conf/exp/EXP.yaml and, for `arm=ARM`, conf/arm/ARM.yaml, apply the overrides, check all.

    Raises:
        UserError: names the key that is unknown, of the wrong type or out of range, or lists the experiments or arms.
    """
    arm = requested(parse_overrides(overrides), "arm")
    if exp not in experiments():
        hint = did_you_mean(exp, experiments())
        raise UserError(f"There is no experiment {exp!r}.{hint} The experiments are: {', '.join(experiments())}.")
    if arm is not None and arm not in arms():
        hint = did_you_mean(str(arm), arms())
        raise UserError(f"There is no arm {arm!r}.{hint} The arms are: {', '.join(arms())}.")
    names = ["base", f"exp/{exp}", *([f"arm/{arm}"] if arm else [])]
    layers = [read_yaml(conf_dir() / f"{name}.yaml") for name in names]
    return compose([*layers, DictConfig({"exp": exp})], overrides)


def compose(layers: Sequence[DictConfig], overrides: Sequence[str] = ()) -> Config:
    """Merge layers, the later ones stronger, and overrides into the schema; see `load`."""
    changes = DictConfig({})
    try:
        for layer in [*layers, parse_overrides(overrides)]:
            _drop_keys_of_other_methods(changes, layer)
            changes.merge_with(layer)
    except OmegaConfBaseException as error:
        raise UserError(f"The overrides {' '.join(overrides)} do not fit: {str(error).splitlines()[0]}.") from None
    schema = _writable(OmegaConf.structured(Config))
    for name in [str(key) for key in changes if key in schema]:
        is_section = name in SECTIONS or isinstance(schema._get_node(name), DictConfig)
        if is_section and not isinstance(changes._get_node(name), DictConfig):
            raise UserError(f"{name} is a section, not a value: write {name}.NAME=value.")
    for section, (selector, registry, default) in SECTIONS.items():
        choice = requested(changes, f"{section}.{selector}")
        given = selector in (changes.get(section) or {})
        name = choice if given else default
        if name not in registry:
            raise UserError(f"{section}.{selector} is {name!r}, but must be one of {', '.join(registry)}.")
        schema[section] = _writable(OmegaConf.structured(registry[name]))
    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, changes))
    except OmegaConfBaseException as error:
        raise _explain(error, schema) from None
    assert isinstance(config, Config)
    check_bounds(config)
    _check_together(config)
    return config


def _drop_keys_of_other_methods(written: DictConfig, layer: DictConfig) -> None:
    """Forget what was written for one method or family alone where the next layer chooses another.

    `exp=nav2d inner.method=cpo` would otherwise fail at the step size of a multiplier that CPO does not have. A key
    that neither of the two knows stays, so that a typo in a file is still an error.
    """
    for section, (selector, registry, default) in SECTIONS.items():
        values, chosen = written.get(section), requested(layer, f"{section}.{selector}")
        if not isinstance(values, DictConfig):
            continue
        name = values.get(selector, default)
        if name in registry and chosen in registry:
            for key in _field_names(registry[name]) - _field_names(registry[chosen]):
                values.pop(key, None)


def _field_names(section: Any) -> set[str]:
    return {item.name for item in dataclasses.fields(section)}


def parse_overrides(overrides: Sequence[str]) -> DictConfig:
    """`key=value` strings as a configuration; values are read as YAML, and None as null: a sweep agent writes so."""
    items = [f"{item.removesuffix('None')}null" if item.endswith("=None") else item for item in overrides]
    for item in items:
        key, equals, _ = item.partition("=")
        if not equals or not key:
            raise UserError(f"{item!r} is not an override: write key=value, e.g. train.meta_iterations=50.")
        try:
            OmegaConf.from_dotlist([item])
        except (OmegaConfBaseException, YAMLError) as error:
            raise UserError(f"The override {item!r} cannot be read: {str(error).splitlines()[0]}.") from None
    return OmegaConf.from_dotlist(items)


def requested(overrides: DictConfig, key: str) -> Any:
    """The value that overrides give a key, None where they give none."""
    try:
        return OmegaConf.select(overrides, key)
    except OmegaConfBaseException as error:
        raise UserError(f"{key} cannot be read: {str(error).splitlines()[0]}.") from None


def save(config: Config, path: Path) -> None:
    """Write a configuration that `read` gives back, in one move."""
    with in_one_move(path) as scratch:
        OmegaConf.save(OmegaConf.structured(config), scratch)


def read(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run stored, with overrides."""
    try:
        stored = read_yaml(path)
        compose([stored])
    except UserError as error:
        raise UserError(
            f"{path} is not as a run has written it: {error} The checkpoints beside it hold its values, too, in "
            "hyper_parameters."
        ) from None
    return compose([stored], overrides)


def flatten(config: Config) -> dict[str, Any]:
    """Every key with its value, keys as on the command line."""

    def walk(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
        if dataclasses.is_dataclass(node):
            for item in dataclasses.fields(node):
                yield from walk(f"{prefix}.{item.name}" if prefix else item.name, getattr(node, item.name))
        elif isinstance(node, dict) and prefix:
            for key, value in node.items():
                yield from walk(f"{prefix}.{key}", value)
        else:
            yield prefix, node

    return dict(walk("", config))


def _writable(node: DictConfig) -> DictConfig:
    """Frozen dataclasses give read-only nodes, at every depth; a schema has to take values."""
    OmegaConf.set_readonly(node, False)
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            _writable(child)
    return node


def read_yaml(path: Path) -> DictConfig:
    """The keys and values of a YAML file; 1e-5 is a number in it.

    Raises:
        UserError: it is missing, not readable or something else.
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


def _explain(error: OmegaConfBaseException, schema: DictConfig) -> UserError:
    """Turn OmegaConf's error into one that names the key and helps."""
    key = str(error.full_key or error.key)
    if error.msg and "not in" in str(error.msg).splitlines()[0]:
        known = list(_keys(schema))
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        if not close:  # the right name in the wrong section
            leaf = key.rsplit(".", 1)[-1]
            close = [name for name in known if name.rsplit(".", 1)[-1] == leaf][:1]
        hint = f" Did you mean {close[0]}?" if close else f" The sections are {', '.join(schema)}."
        return UserError(f"There is no key {key}.{hint}")
    reason = str(error.msg).splitlines()[0]
    return UserError(f"{key} has a wrong value: {reason}.")


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        name = f"{prefix}{key!s}"
        yield name
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none():
            yield from _keys(child, f"{name}.")


def _check_together(config: Config) -> None:
    """Rules that take more than one key."""
    if config.train.tasks_per_batch > config.tasks.train:
        raise UserError(
            f"train.tasks_per_batch is {config.train.tasks_per_batch}, but tasks.train offers only "
            f"{config.tasks.train} different tasks: lower the one or raise the other."
        )
