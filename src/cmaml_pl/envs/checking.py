"""Checks an environment of one's own against the interface that the trainer needs, TaskEnv."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import Bounded
from torchrl.envs.utils import step_mdp

from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.errors import UserError
from cmaml_pl.imports import told
from cmaml_pl.task import Task

FLAGS = ("done", "terminated", "truncated")
GIVEN = {"reset": ("observation", "cost", *FLAGS), "a step": ("observation", "reward", "cost", *FLAGS)}
"""What gives values -> their keys."""
REPEATED = 5
"""Number of steps that are taken twice, to see whether they give the same numbers."""


def check_task_env(env: TaskEnv, tasks: Sequence[Task] | None = None) -> None:
    """Check that the trainer can train on `env`: it runs one episode of random actions, and says what is wrong.

    Args:
        env: an environment of one's own; better a small one, such as 2 tasks with 2 worlds each.
        tasks: one for each row of its batch; None for tasks without parameters.

    Raises:
        UserError: something is wrong; the message says what, and what to do.
    """
    # only the first fault is told, because others mostly follow from it
    for check in (_declaration, _tasks, _episode, _repetition, _positions):
        try:
            fault = next(check(env, tasks), None)
        except Exception as error:  # noqa: BLE001  (the user's environment may raise anything)
            names = {_declaration: "reading its specs", _tasks: "set_tasks", _positions: "positions"}
            doing = names.get(check, "a reset or a step")
            fault = f"{doing} fails, {told(error)}."
        if fault:
            raise UserError(f"{type(env).__name__} cannot be trained on yet: {fault}")


def _declaration(env: Any, tasks: Sequence[Task] | None) -> Iterator[str]:
    """Class, batch, horizon and specs."""
    if not isinstance(env, TaskEnv):
        yield "it does not inherit from cmaml_pl.envs.base.TaskEnv."
    if len(env.batch_size) != 2:
        yield f"its batch size is {list(env.batch_size)}; give the base class batch_size=torch.Size([tasks, envs])."
    horizon = getattr(env, "horizon", None)
    if not isinstance(horizon, int) or horizon < 1:
        yield f"its horizon is {horizon}; set self.horizon to the number of steps of an episode."
    specs = _specs(env)
    for key in ("observation", "action", "reward", "cost", *FLAGS):
        if key not in specs:
            yield f"its specs have no {key!r}; cmaml_pl.envs.base.set_specs declares all that is needed."
        yield from _form(f"the spec of {key!r}", specs[key], key, env)


def _specs(env: TaskEnv) -> dict[str, Any]:
    """Key -> spec, of all that is declared."""
    found: dict[str, Any] = {}
    for kind in ("observation", "action", "reward", "done"):
        found |= dict(getattr(env, f"full_{kind}_spec").items())
    return found


def _form(what: str, value: Any, key: str, env: TaskEnv) -> Iterator[str]:
    """Faults of the shape and dtype of a spec or a tensor."""
    batch, shape = tuple(env.batch_size), tuple(value.shape)
    vector = key in ("observation", "action")
    if len(shape) != 3 or shape[:2] != batch or not (vector or shape[2] == 1):
        yield f"{what} has the shape {shape}; {(*batch, 'numbers' if vector else 1)} is needed."
    dtype = torch.bool if key in FLAGS else torch.float32
    if value.dtype != dtype:
        yield f"{what} has the dtype {value.dtype}; {dtype} is needed."


def _tasks(env: TaskEnv, tasks: Sequence[Task] | None) -> Iterator[str]:
    """Whether it takes tasks."""
    rows = env.batch_size[0]
    if tasks is not None and len(tasks) != rows:
        yield f"check_task_env was given {len(tasks)} tasks; one for each of its {rows} rows is needed."
    try:
        env.set_tasks(tasks or [Task("check", row, layout_seed=row, cost_limit=1.0) for row in range(rows)])
    except KeyError as error:
        if tasks is not None:
            raise
        yield f"its tasks need {error}; give check_task_env tasks of your family as its second argument."


def _episode(env: TaskEnv, tasks: Sequence[Task] | None) -> Iterator[str]:
    """Values and ends of one episode, in which a world is reset after its first step and the others are not."""
    env.set_seed(0)
    state, generator = env.reset(), torch.Generator().manual_seed(0)
    yield from _values("reset", state, env)
    age = torch.zeros(*env.batch_size, 1, dtype=torch.int64)
    for step in range(1, env.horizon + 2):
        after = env.step(state.set("action", _draw(env, generator)))
        following = after["next"]
        yield from _values("a step", following, env)
        age += 1
        terminated, truncated, done = (following[flag] for flag in ("terminated", "truncated", "done"))
        if (done != (terminated | truncated)).any():
            yield f"at step {step} done is not terminated | truncated; set it so."
        if (truncated & ~terminated & (age < env.horizon)).float().mean() > 0.5:  # failures are few
            yield (
                f"most of its worlds are truncated after {int(age.max())} steps, before its horizon, {env.horizon}; "
                "set self.horizon to the limit."
            )
        if (~done & (age >= env.horizon)).any():
            yield (
                f"an episode goes on after {env.horizon} steps, its horizon; truncate it there, counted from the reset "
                'of each world, and reset only the worlds that "_reset" names.'
            )
        chosen = done.clone()
        chosen[0, 0] |= step == 1
        state = step_mdp(after)
        if chosen.any():
            state = env.reset(state.set("_reset", chosen))
            yield from _values("reset", state, env)
            age[chosen] = 0


def _values(giver: str, values: TensorDictBase, env: TaskEnv) -> Iterator[str]:
    """Faults of what a reset or a step gives."""
    specs = _specs(env)
    for key in GIVEN[giver]:
        if key not in values.keys():
            yield f"{giver} gives no {key!r}."
        value = values[key]
        yield from _form(f"{key!r} of {giver}", value, key, env)
        if value.shape != specs[key].shape:
            yield f"{key!r} of {giver} has the shape {tuple(value.shape)}, its spec {tuple(specs[key].shape)}."
        if not value.isfinite().all():
            yield f"{key!r} of {giver} has numbers that are not finite; end the episode before they arise."


def _draw(env: TaskEnv, generator: torch.Generator) -> Tensor:
    """Random actions, (tasks, envs, A): within their bounds, or normal ones."""
    spec: Any = env.action_spec
    if not isinstance(spec, Bounded):
        return torch.randn(tuple(spec.shape), generator=generator)
    low, high = spec.space.low, spec.space.high
    uniform = torch.rand(tuple(spec.shape), generator=generator)
    return torch.lerp(low, high, uniform)


def _repetition(env: TaskEnv, tasks: Sequence[Task] | None) -> Iterator[str]:
    """Whether the same seed gives the same numbers."""
    first, second = ([*_replay(env)] for _ in range(2))
    for name, one, other in ((name, one, other) for (name, one), (_, other) in zip(first, second, strict=True)):
        if not torch.equal(one, other):
            yield (
                f"the same seed does not give the same {name!r}; let _set_seed seed all that it draws from, and draw "
                "from no global generator."
            )


def _replay(env: TaskEnv) -> Iterator[tuple[str, Tensor]]:
    """What a few steps after a seed give."""
    env.set_seed(1)
    state, generator = env.reset(), torch.Generator().manual_seed(1)
    yield "observation", state["observation"].clone()
    for _ in range(min(REPEATED, env.horizon)):
        after = env.step(state.set("action", _draw(env, generator)))
        for key in ("observation", "reward", "cost"):
            yield key, after["next", key].clone()
        state = env.maybe_reset(step_mdp(after))


def _positions(env: TaskEnv, tasks: Sequence[Task] | None) -> Iterator[str]:
    """Whether positions, which it may not have, can be drawn."""
    batch, positions = tuple(env.batch_size), env.positions()
    if positions and "agent" not in positions:
        yield f"positions has {', '.join(positions)}, but no 'agent'; without positions, leave the method out."
    for name, xy in positions.items():
        if xy.ndim != 4 or xy.shape[:2] != batch or xy.shape[3] != 2:
            yield f"the positions of {name!r} have the shape {xy.shape}; {(*batch, 'things', 2)} is needed."
