"""Checks of the module that a callback is attached to, and of what the module's steps return."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule

from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.algorithm.record import MetaIteration


def require_cmaml(callback: Callback, module: LightningModule) -> CMAML:
    """The module, after a check that it is a CMAML.

    Raises:
        TypeError: it is another kind of LightningModule; the message names `callback`.
    """
    if not isinstance(module, CMAML):
        raise TypeError(f"{type(callback).__name__} serves a {CMAML.__module__}.CMAML, not a {type(module).__name__}")
    return module


def iteration_of(outputs: Mapping[str, Any]) -> MetaIteration:
    """The record of the meta-iteration in `outputs`, which `CMAML.training_step` has returned."""
    record = outputs["iteration"]
    assert isinstance(record, MetaIteration)
    return record
