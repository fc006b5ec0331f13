"""Checks of a configuration that involve more than one key."""

import math

from cmaml_pl.algorithm.exploration import count_informed
from cmaml_pl.configuration.registry import INNER_METHODS
from cmaml_pl.configuration.schema import GAUSSIAN, Config, PolicyConfig
from cmaml_pl.deployment.base import Adapted
from cmaml_pl.errors import UserError, did_you_mean


def check_together(config: Config) -> None:
    """Check the rules that involve more than one key."""
    _check_policy(config.policy)
    _check_exploration(config)
    if config.train.tasks_per_batch > config.tasks.train:
        raise UserError(
            f"train.tasks_per_batch is {config.train.tasks_per_batch}, but tasks.train offers only "
            f"{config.tasks.train} different tasks: lower the one or raise the other."
        )
    if config.train.distinct_tasks is not None and config.train.distinct_tasks > config.tasks.train:
        raise UserError(
            f"train.distinct_tasks is {config.train.distinct_tasks}, but tasks.train offers only {config.tasks.train} "
            "tasks: lower the one or raise the other."
        )
    region = getattr(config.inner, "trust_region", None)
    if config.outer.differentiates and not config.inner.differentiable:
        able = ", ".join(name for name, method in INNER_METHODS.items() if method.differentiable)
        raise UserError(
            f"outer.method is {config.outer.method}, which needs the derivative of an adaptation step, but "
            f"inner.method={config.inner.method} has none: choose one of {able}, or outer.method=fomaml."
        )
    if config.deployment.needs_limit and not 0 < config.inner.cost_limit < math.inf:
        raise UserError(
            f"deployment.method is {config.deployment.method}, which needs a finite limit above 0, but "
            f"inner.cost_limit is {config.inner.cost_limit}: set another one, or deployment.method=adapted."
        )
    if config.outer.radius_lr > 0 and not config.inner.stretchable:
        able = ", ".join(name for name, method in INNER_METHODS.own.items() if method().stretchable)
        raise UserError(
            f"outer.radius_lr is {config.outer.radius_lr}, which learns how long adaptation steps are, but no trust "
            f"region sets that for inner.method={config.inner.method}: choose one of {able}, or set outer.radius_lr=0."
        )
    has_context = config.policy.context > 0 or config.policy.actor != GAUSSIAN
    if region is not None and region.parameters == "context" and not has_context:
        raise UserError(
            "inner.trust_region.parameters is context, but policy.context, its length, is 0: set a length, or let the "
            "step move all parameters or the head."
        )


def _check_exploration(config: Config) -> None:
    """Check that there is a context to explore by, and that what uses it can."""
    std = config.exploration.std
    if config.exploration.informed > 0 and std == 0:
        raise UserError(
            f"exploration.informed is {config.exploration.informed}, but exploration.std is 0, so that nothing "
            "explores by its context: set a std, or exploration.informed=0."
        )
    if std == 0:
        return
    told = _check_informed(config)
    if config.policy.actor != GAUSSIAN:
        raise UserError(
            f"exploration.std is {std}, but policy.actor is {config.policy.actor}, which has no context to explore by: "
            "set exploration.std=0 and exploration.informed=0."
        )
    if config.policy.context < max(1, len(told)):
        needs = f"at least {len(told)}, to tell {', '.join(told)}" if told else "a length"
        raise UserError(
            f"exploration.std is {std}, but policy.context, the length of the context, is {config.policy.context}: set "
            f"{needs}, or exploration.std=0."
        )
    if config.rollout.envs_per_task < 2:
        raise UserError(
            f"exploration.std is {std}, but rollout.envs_per_task is 1, and contexts differ between the worlds of a "
            "task: set at least 2, or exploration.std=0."
        )
    unfit = _ignores_the_context_step(config)
    if unfit:
        raise UserError(
            f"exploration.std is {std}, but {unfit} does not follow the step of the context: set exploration.std=0 and "
            "exploration.informed=0, or change that key."
        )


def _check_informed(config: Config) -> tuple[str, ...]:
    """Check that some tasks can be told, and not all; the names of what they are told, none if no task is."""
    share, batch = config.exploration.informed, config.train.tasks_per_batch
    if share == 0:
        return ()
    told = config.tasks.hidden_names()
    if not told:
        raise UserError(
            f"exploration.informed is {share}, but a task of the family {config.tasks.family} has no hidden parameters "
            "to tell: set exploration.informed=0."
        )
    if not 0 < count_informed(share, batch) < batch:
        raise UserError(
            f"exploration.informed is {share}, which informs {count_informed(share, batch)} of the {batch} tasks of a "
            "batch (train.tasks_per_batch), but must inform at least one, and leave one that explores."
        )
    return told


def _ignores_the_context_step(config: Config) -> str | None:
    """The first setting that takes adaptation steps for those of the inner method alone; None if there is none."""
    if config.outer.differentiates:
        return f"outer.method={config.outer.method}"
    if config.outer.radius_lr > 0:
        return f"outer.radius_lr={config.outer.radius_lr}"
    return None if isinstance(config.deployment, Adapted) else f"deployment.method={config.deployment.method}"


def _check_policy(policy: PolicyConfig) -> None:
    """Check that the keys of an actor are not those of another one."""
    if policy.actor == GAUSSIAN:
        if policy.options:
            names = ", ".join(policy.options)
            raise UserError(f"policy.options has {names}, but policy.actor={GAUSSIAN} has no options: leave them out.")
    elif ":" not in policy.actor:
        hint = did_you_mean(policy.actor, [GAUSSIAN])
        raise UserError(f"policy.actor is {policy.actor!r}, but must be {GAUSSIAN}, or your own MODULE:CLASS.{hint}")
    elif policy.context > 0:
        raise UserError(
            f"policy.context is {policy.context}, but policy.actor={policy.actor} does not read it: set "
            "policy.context=0. A network of your own may have a parameter `context`."
        )
