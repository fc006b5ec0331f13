"""Reads studies from conf/study, from files of the user's own and from commands, and checks them."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from zlib import crc32

from omegaconf import ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cmaml_pl.bounds import check_bounds
from cmaml_pl.configuration.loading import OWN, arms, check_name, conf_file, experiments, own_name, read_yaml, studies
from cmaml_pl.configuration.merging import flatten, writable
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.configuration.schema import Config
from cmaml_pl.errors import UserError, did_you_mean
from cmaml_pl.evaluation.arms import check_alike
from cmaml_pl.evaluation.labels import find_label
from cmaml_pl.studies.definition import LIMIT, META_POLICY, PUBLISHED, RANDOM, Arm, Claim, Published, Study

FROM_A_COMMAND = ("exp", "arms", "seeds", "steps")
"""Keys of a study that a command may set as well."""

SET_BY_THE_STUDY = ("exp", "arm", "seed", "run.id", "run.label", "run.resume")
"""Keys of a configuration that no override of a study may set."""

ALL = "all"
"""In place of the names of all studies in conf/study."""

NO_KEYS = ("trial", "command", "left_out")
"""Fields of a study that are no keys of a file."""

QUICK = "quick"
"""The scale at which studies only try the pipeline."""


def load_studies(request: Mapping[str, Any], overrides: Sequence[str]) -> list[Study]:
    """The studies that a command asks for, checked.

    Args:
        request: `study`, a name, a YAML file, a list of them or ALL; what is to differ, FROM_A_COMMAND; and `scale`.
            Without `study`, the others make a study of their own.
        overrides: key=value for all trainings.

    Raises:
        UserError: a key, a name or a value is wrong, or a claim does not fit its study.
    """
    given = {key: request[key] for key in FROM_A_COMMAND if request.get(key) is not None}
    given |= {key: [given[key]] for key in ("arms", "seeds") if key in given and not isinstance(given[key], ListConfig)}
    named = request.get("study")
    if named is None and "exp" not in given:
        raise UserError(
            f"study takes study=NAME, one of {', '.join(studies())}, or exp=NAME, one of {', '.join(experiments())}."
        )
    names = studies() if named == ALL else named if isinstance(named, ListConfig) else [named]
    if not names:
        raise UserError(f"study is [], but must name one or several of {', '.join(studies())}, or YAML files.")
    if len(names) > 1 and "exp" in given:
        raise UserError("exp cannot be set for several studies: each file names its own.")
    quick, found = request.get("scale") == QUICK, []
    for name in names:
        study = _load(None if name is None else str(name), given, overrides)
        asked = {"study": name, **given, "scale": request.get("scale")}
        words = [*(f"{key}={_written(value)}" for key, value in asked.items() if value is not None), *overrides]
        study = replace(study, command=shlex.join(["cmaml", "study", *words]))
        found.append(scaled_down(study) if quick else study)
    return found


def _written(value: object) -> str:
    """A value of a key as it is written in a command."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, list | ListConfig) else str(value)


def _load(name: str | None, given: Mapping[str, Any], overrides: Sequence[str]) -> Study:
    """One study, from its file where it has a name, with what the command says of it."""
    where = "the study" if name is None else str(conf_file("study", name))
    content: dict[str, Any] = {} if name is None else {str(k): v for k, v in read_yaml(Path(where)).items()}
    whole = _read({"exp": "", **content}, where)
    study = _read({**content, **given}, where)
    if "arms" in given:
        study = replace(study, arms=_find_labelled(study.arms, whole, where))
    # nothing is claimed about arms and steps that the command leaves out
    missing = [label for label in whole.labels if label not in study.labels]
    last = study.steps if "steps" in given else math.inf
    kept = [
        claim
        for claim in study.claims
        if claim.arm not in missing and claim.against not in missing and (claim.step or 0) <= last
    ]
    study = replace(study, claims=kept, left_out=len(study.claims) - len(kept))
    study = replace(study, overrides=[*study.overrides, *overrides])
    study = replace(study, name=study.name or (own_name("study", name) if name else _joined(study)))
    check_name(study.name, f"name of {where} is {study.name!r}, but")
    _check(study, where)
    _check_effect(study, overrides, where)
    return study


def _find_labelled(asked: Sequence[Arm], whole: Study, where: str) -> list[Arm]:
    """The arms that a command asks for; those of the file `whole` that have a label or overrides keep them."""
    labelled = {arm.name: arm for arm in whole.arms if arm.label or arm.overrides}
    for name in (arm.arm for arm in asked if labelled and arm.arm not in labelled):
        if name not in arms() and not name.endswith(OWN):
            hint = did_you_mean(name, [*whole.labels, *arms()])
            raise UserError(f"There is no arm {name!r}.{hint} {where} has the arms {', '.join(whole.labels)}.")
    return [arm if arm.label or arm.overrides else labelled.get(arm.name, arm) for arm in asked]


def _joined(study: Study) -> str:
    """A name for a study without a file: its arms or, if that is too long for a folder's name, a checksum of them."""
    joined = "-".join(study.labels)
    return (
        joined if len(joined) <= 80 else f"{study.labels[0]}-and-{len(study.labels) - 1}-{crc32(joined.encode()):08x}"
    )


def _read(content: dict[str, Any], where: str) -> Study:
    """The study that a file or a command describes; its types and bounds are checked."""
    known = [field.name for field in fields(Study) if field.name not in NO_KEYS]
    for key in content.keys() & NO_KEYS:
        raise UserError(f"{where} has no key {key}. There are {', '.join(known)}.")
    if isinstance(given := content.get("arms"), list | ListConfig):
        content = {**content, "arms": [{"arm": arm} if isinstance(arm, str) else arm for arm in given]}
    try:
        study = OmegaConf.to_object(OmegaConf.merge(writable(OmegaConf.structured(Study)), OmegaConf.create(content)))
    except MissingMandatoryValue as error:
        raise UserError(f"{where} needs {error.full_key}.") from None
    except OmegaConfBaseException as error:
        key, reason = str(error.full_key or error.key or "a value"), str(error.msg).splitlines()[0].rstrip(".")
        if "not in" in reason:
            part = next((kind for kind in (Arm, Claim, Published) if error.object_type is kind), None)
            known = [field.name for field in fields(part)] if part else known
            hint = did_you_mean(key.rpartition(".")[-1], known)
            raise UserError(f"{where} has no key {key}.{hint} There are {', '.join(known)}.") from None
        raise UserError(f"{key} of {where} has a wrong value: {reason}.") from None
    assert isinstance(study, Study)
    check_bounds(study)
    for i, claim in enumerate(study.claims):
        check_bounds(claim, f"{where}, claims[{i}].")
    claims = [_with_published(claim, study, f"{where}, claims[{i}]") for i, claim in enumerate(study.claims)]
    return replace(study, claims=claims)


def _with_published(claim: Claim, study: Study, where: str) -> Claim:
    """A claim that is held against "published METHOD" with the number for it, and its source."""
    word, _, method = str(claim.against).partition(" ")
    if word != PUBLISHED:
        return claim
    found = next((each for each in study.published if each.method == method), None)
    if found is None:
        methods = ", ".join(each.method for each in study.published) or "none"
        raise UserError(f"{where}.against is {claim.against!r}. What the study has as published: {methods}.")
    step = study.steps if claim.step is None else claim.step
    if claim.quantity != "return" or step not in found.returns:
        known = f"returns at steps {', '.join(map(str, found.returns))}"
        raise UserError(f"{where} is about the {claim.quantity} at step {step}, but published of {method} are {known}.")
    return replace(claim, against=found.returns[step], source=f"{find_label(method)}, {found.source}")


def _check(study: Study, where: str) -> None:
    """Check what involves other keys, before anything is started."""
    given = [parse_overrides(overrides) for overrides in (study.overrides, *(arm.overrides for arm in study.arms))]
    for key in SET_BY_THE_STUDY:
        if any(find_value(tree, key) is not None for tree in given):
            raise UserError(f"{key} cannot be set in a study, which sets it itself: see exp, arms and seeds.")
    for arm in study.arms:
        for key in _flat(arm.overrides):
            if key.startswith("run."):
                raise UserError(
                    f"{key} is set by arm {arm.name} of {where}, but must be the same for all: set it in "
                    "the overrides of the study, or in the command."
                )
    values: Sequence[object]
    for key, values in (("arms", study.labels), ("seeds", study.seeds)):
        if not values or len(set(values)) < len(values):
            hint = " Of arms that differ in their overrides, give each a label of its own." if key == "arms" else ""
            raise UserError(f"{key} of {where} is {list(values)}, but must name one or several, each once.{hint}")
    for label in study.labels:
        check_name(label, f"A label in arms of {where} is {label!r}, but")
    reserved = [label for label in study.labels if label in (RANDOM, META_POLICY, LIMIT, PUBLISHED)]
    if reserved:
        raise UserError(
            f"arms of {where} has {reserved[0]}, which means something else in against: rename the file, or the label."
        )
    for i, each in enumerate(study.published):
        check_name(each.method, f"published[{i}].method of {where} is {each.method!r}, but")
        if not each.returns or min(each.returns) < 0:
            what = f"published[{i}].returns of {where} is {each.returns}"
            raise UserError(f"{what}, but must give returns by adaptation steps, from 0 on.")
    configs = _load_configs(study)
    for i, claim in enumerate(study.claims):
        _check_claim(claim, study, f"{where}, claims[{i}]", scored=any(config.tasks.observe_task for config in configs))
    check_alike(configs, study.labels)


def _check_effect(study: Study, overrides: Sequence[str], where: str) -> None:
    """Check that no arm sets what a command sets: the arm's value is the stronger one."""
    asked = _flat(overrides)
    for arm in study.arms:
        own = _flat(arm.overrides)
        for key, value in asked.items():
            if key in own and own[key] != value:
                raise UserError(
                    f"{key} is set by arm {arm.name} of the study: {key}={own[key]}. Leave {key}={value} out, "
                    f"choose other arms by arms=[...], or change {where}."
                )


def _flat(overrides: Sequence[str]) -> dict[str, Any]:
    """Dotted key -> value of all that overrides set."""
    tree = OmegaConf.to_container(parse_overrides(overrides))
    assert isinstance(tree, dict)
    return flatten({str(key): value for key, value in tree.items()})


def _load_configs(study: Study) -> list[Config]:
    """The configurations of all arms; an error that is not the same for all names its arm."""
    configs, errors = [], {}
    for arm in study.arms:
        try:
            configs.append(study.config(arm))
        except UserError as error:
            errors[arm.name] = str(error)
    if errors:
        label, message = next(iter(errors.items()))
        shared = len(errors) == len(study.arms) and len(set(errors.values())) == 1
        raise UserError(message if shared else f"arm {label}: {message}")
    return configs


def _check_claim(claim: Claim, study: Study, where: str, *, scored: bool) -> None:
    if claim.arm not in study.labels:
        hint = did_you_mean(claim.arm, study.labels)
        raise UserError(f"{where}.arm is {claim.arm!r}.{hint} The study has the arms {', '.join(study.labels)}.")
    others = [*(arm for arm in study.labels if arm != claim.arm), RANDOM, META_POLICY, LIMIT]
    number = isinstance(claim.against, int | float) and not isinstance(claim.against, bool)
    if not number and claim.against not in others:
        hint = did_you_mean(str(claim.against), others)
        raise UserError(f"{where}.against is {claim.against!r}.{hint} It is a number or one of {', '.join(others)}.")
    if claim.step is not None and claim.step > study.steps:
        raise UserError(f"{where}.step is {claim.step}, but the study has {study.steps} steps: raise its steps.")
    if claim.against == LIMIT and claim.quantity not in ("cost", "worst_cost"):
        raise UserError(f"{where}.against is limit, which is one of costs: {claim.quantity} has none.")
    if claim.against == META_POLICY and (claim.step == 0 or claim.quantity == "worst_cost"):
        raise UserError(f"{where}.against is meta_policy, which is step 0: name another quantity or a later step.")
    if claim.quantity == "score" and not scored:
        raise UserError(f"{where}.quantity is score, which needs the arm oracle in the study.")


def scaled_down(study: Study) -> Study:
    """A trial of the pipeline in minutes: two seeds, two meta-iterations, short episodes, small batches, few tasks.

    Its runs have a folder of their own, so that no other study goes on from them.
    """
    steps = min(study.steps, 3)
    return replace(
        study,
        seeds=study.seeds[:2],
        steps=steps,
        arms=[replace(arm, overrides=[*arm.overrides, *_smaller(study.config(arm))]) for arm in study.arms],
        claims=[replace(claim, step=None if claim.step is None else min(claim.step, steps)) for claim in study.claims],
        trial=True,
    )


def _smaller(config: Config) -> list[str]:
    """The overrides that make a training a trial."""
    smaller = {
        "run.dir": Path(config.run.dir) / QUICK,
        "train.meta_iterations": min(config.train.meta_iterations, 2),
        "train.tasks_per_batch": min(config.train.tasks_per_batch, 4),
        "rollout.envs_per_task": min(config.rollout.envs_per_task, 8),
        "rollout.horizon": min(config.rollout.horizon, 50),
        "tasks.validation": min(config.tasks.validation, 4),
        "tasks.test": min(config.tasks.test, 4),
    }
    return [f"{key}={value}" for key, value in smaller.items()]
