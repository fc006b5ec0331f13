"""W&B sweeps: creates a sweep from conf/sweep, and starts the agent that runs its trials."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import wandb
from omegaconf import OmegaConf

from cmaml_pl.configuration.loading import conf_file, load_experiment, read_yaml
from cmaml_pl.configuration.overrides import find_value, parse_overrides
from cmaml_pl.errors import UserError
from cmaml_pl.tracking.wandb_logger import set_up_wandb

ARGUMENTS = "${args_no_hyphens}"
"""Place in the sweep's command that an agent replaces by the parameters of a trial, as key=value."""

EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")
"""Distributions whose `min` and `max` are not values of the parameter, but logarithms of values."""


def create_sweep(name: str, overrides: Sequence[str]) -> str:
    """Create the sweep of conf/sweep/NAME.yaml at W&B, and return its path, ENTITY/PROJECT/ID.

    Args:
        name: name of the file, without its suffix.
        overrides: `key=value` strings for all trials of the sweep.

    Raises:
        UserError: there is no such file, training would refuse its parameters or the overrides, or W&B does not create
            the sweep.
    """
    sweep = load_sweep(name, overrides)
    set_up_wandb(offline=False)
    try:
        sweep_id = wandb.sweep(sweep, project=os.environ.get("WANDB_PROJECT") or sweep.get("project"))
        api = wandb.Api()
    except wandb.errors.Error as error:
        raise UserError(f"W&B does not create the sweep: {str(error).splitlines()[0]}") from None
    # wandb.sweep has stored the sweep's project in the settings of this process
    return f"{api.settings['entity'] or api.default_entity}/{api.settings['project']}/{sweep_id}"


def load_sweep(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The content of conf/sweep/NAME.yaml, with the overrides added to its command; see `create_sweep`.

    It is checked that training accepts the values of its parameters.
    """
    file = conf_file("sweep", name)
    sweep = OmegaConf.to_container(read_yaml(file))
    assert isinstance(sweep, dict)
    command, parameters = sweep.get("command", []), sweep.get("parameters", {})
    if ARGUMENTS not in command:
        raise UserError(f"{file} needs a command: with {ARGUMENTS}, where an agent puts the parameters.")
    for item in overrides:
        if item.partition("=")[0] in parameters:
            raise UserError(f"{item} cannot be set: the sweep {name} varies it.")
    place = command.index(ARGUMENTS)
    command[place:place] = overrides
    fixed = [item for item in command if "=" in item]
    exp = find_value(parse_overrides(fixed), "exp")
    for trial in [[], *([f"{key}={value}"] for key in parameters for value in _values(parameters[key]))]:
        load_experiment(str(exp), [*fixed, *trial])
    return {str(key): value for key, value in sweep.items()}


def _values(parameter: Mapping[str, Any]) -> list[Any]:
    """The values of a parameter that a sweep's file lists, or the ends of its range; none for EXPONENTS."""
    if parameter.get("distribution") in EXPONENTS:
        return []
    return parameter.get("values") or [parameter[key] for key in ("value", "min", "max") if key in parameter]


def become_agent(sweep: str, *, count: int | None = None) -> NoReturn:
    """Replace this process by `wandb agent`, which runs trials of a sweep until the sweep ends.

    Args:
        sweep: path of the sweep, ENTITY/PROJECT/ID.
        count: largest number of trials; None for no limit.
    """
    # ${interpreter} in a sweep's command is the first python on PATH, which must be this one
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    # the agent forwards signals, because whoever stops the agent wants to stop its trial as well
    options = ["--forward-signals", *(["--count", str(count)] if count else [])]
    os.execve(sys.executable, [sys.executable, "-m", "wandb", "agent", *options, sweep], {**os.environ, "PATH": path})
