"""The inner loop: it alternates rollouts and adaptation steps, for a batch of tasks at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import pairwise

import torch
from tensordict import TensorDict
from torch import Tensor

from cmaml_pl.algorithm.exploration import Exploration
from cmaml_pl.deployment.base import Adapted, Deployed, Deployment
from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.distributed.threads import ONE_THREAD, RowThreads
from cmaml_pl.inner.base import InnerMethod, InnerStep, PullBack, mean_kl
from cmaml_pl.math.finite import finite_rows
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.rollout.task_data import AdvantageEstimator, TaskData, select
from cmaml_pl.task import Task


@dataclass(frozen=True)
class Stage:
    """The policies of a batch of tasks after k adaptation steps, and the rollout that they collected.

    A strategy of deployment may let other policies play some of the episodes.

    Attributes:
        theta: the adapted parameters, (tasks, P), which collected the rollout unless others played as well.
        multiplier: lambda^p, (tasks,).
        rollout: TensorDict [tasks, envs, time].
        data: the same rollout, prepared for the updates.
        step: the adaptation step that led to `theta`; None for the first stage.
        informed: which tasks were told what is hidden of them, see Exploration, bool, (tasks,); None if no task was.
    """

    theta: Tensor
    multiplier: Tensor
    rollout: TensorDict
    data: TaskData
    step: InnerStep | None
    informed: Tensor | None = None

    @cached_property
    def finite(self) -> Tensor:
        """Whether all numbers of a task are finite, bool, (tasks,); its cost limit may be infinite."""
        derived = (
            self.data.reward_advantage,
            self.data.cost_advantage,
            self.data.episode_return,
            self.data.episode_cost,
        )
        return finite_rows([self.theta, self.multiplier, *self.rollout.values(True, True), *derived])

    def select(self, rows: Tensor) -> "Stage":
        """The stage of the tasks that the mask `rows` selects, bool, (tasks,)."""
        step = None if self.step is None else select(self.step, rows)
        informed = None if self.informed is None else self.informed[rows]
        data = select(self.data, rows)
        return Stage(self.theta[rows], self.multiplier[rows], self.rollout[rows], data, step, informed)

    def uninformed(self) -> "Stage":
        """The stage of the tasks that were told nothing, as every task is when the policy is deployed."""
        return self if self.informed is None else self.select(~self.informed)


def sound_stages(stages: list[Stage], ranks: Ranks = ALONE) -> tuple[list[Stage], int]:
    """Leave out each task with a number that is not finite in any stage, so that it does not spoil means over tasks.

    Returns:
        The stages without those tasks, and how many tasks of all ranks were not finite. If no task is finite, the
        stages are returned unchanged. The caller must then learn nothing from them.
    """
    sound = torch.stack([stage.finite for stage in stages]).all(dim=0)
    kept, tasks = ranks.total(int(sound.sum())), ranks.total(len(sound))
    return ([stage.select(sound) for stage in stages] if 0 < kept < tasks else stages), tasks - kept


def steps_between(stages: Sequence[Stage]) -> list[InnerStep]:
    """The adaptation steps that led from the first of some stages to the last."""
    return [stage.step for stage in stages if stage.step is not None]


def adapt(
    tasks: Sequence[Task],
    theta: Tensor,
    multiplier: Tensor,
    *,
    steps: int,
    rollouts: Rollouts,
    estimator: AdvantageEstimator,
    inner: InnerMethod,
    stream: Sequence[str | int],
    threads: RowThreads = ONE_THREAD,
    deployment: Deployment | None = None,
    lengths: Tensor | None = None,
    exploration: Exploration | None = None,
    learning: bool = False,
) -> list[Stage]:
    """Adapt one policy to every task; each step uses newly collected data.

    Args:
        tasks: at most as many as the environments of all ranks have rows.
        theta: parameters that every task starts from, (P,); not changed.
        multiplier: lambda^p that every task starts from, scalar.
        steps: K, the number of adaptation steps.
        rollouts: collects the data.
        estimator: estimates the advantages.
        inner: the adaptation method.
        stream: names the random streams of the rollouts.
        threads: share the tasks of a step.
        deployment: which policies play the episodes; None for the adapted ones. Where another one plays as well, the
            adapted policy takes no step.
        lengths: factors on the lengths of the steps; a step beyond the last of them has the last. None changes no step.
        exploration: how contexts differ between worlds; None if they do not.
        learning: whether this is meta-training, in which some tasks are informed.

    Returns:
        K + 1 stages of this rank's own tasks. The first stage is the policy before adaptation, the last one the policy
        after it. If the data or the step of a task is not finite, that task keeps its parameters and its multiplier.
    """
    rows, own = rollouts.set_tasks(tasks)
    limit = torch.tensor([task.cost_limit for task in rows], device=theta.device)
    deployment = deployment or Adapted()
    now = deployment.start(theta.expand(len(rows), -1).clone(), limit)
    multipliers = multiplier.expand(len(rows)).clone()
    taken = torch.zeros(len(rows), dtype=torch.int64, device=theta.device)
    stages: list[Stage] = []
    step: InnerStep | None = None
    informed = exploration.is_informed(*rollouts.place).to(theta.device) if exploration and learning else None
    for k in range(steps + 1):
        offsets = _draw_offsets(exploration, rollouts, rows, taken, informed, (*stream, k))
        worlds, rollout = _collect(rollouts, now, offsets, informed, (*stream, k))
        data = estimator.task_data(rollout, limit, rollouts.ranks, threads)
        stages.append(Stage(now.theta, multipliers, rollout, data, step, informed))
        if k < steps:
            proposed = _step_of_length(inner, lengths, taken, estimator.actor, now.theta, multipliers, data, threads)
            proposed = _move_context(proposed, exploration, inner, estimator, stages[-1], rollouts.ranks)
            step = _hold(proposed, stages[-1], may_move=now.alone, whole=inner.shares_policy)
            taken += now.alone
            now = deployment.go_on(now, step.theta, rollout, worlds, discount=estimator.limit_discount)
            multipliers = step.multiplier
    kept = torch.arange(len(rows), device=theta.device) < own
    return stages if own == len(rows) else [stage.select(kept) for stage in stages]


def method_at(inner: InnerMethod, lengths: Tensor | None, taken: int) -> InnerMethod:
    """The method of the next step of a task that has taken some; `lengths` as in `adapt`."""
    return inner if lengths is None else inner.stretched(float(lengths[min(taken, len(lengths) - 1)]))


def _step_of_length(
    inner: InnerMethod,
    lengths: Tensor | None,
    taken: Tensor,
    actor: Actor,
    theta: Tensor,
    multiplier: Tensor,
    data: TaskData,
    threads: RowThreads,
) -> InnerStep:
    """`_step`, as long as each task's number of steps so far says, `taken`, (tasks,)."""
    if lengths is None:
        return _step(inner, actor, theta, multiplier, data, threads)
    parts: list[InnerStep] = []
    order: list[Tensor] = []
    for count in taken.unique().tolist():
        rows, method = taken == count, method_at(inner, lengths, count)
        parts.append(_step(method, actor, theta[rows], multiplier[rows], select(data, rows), threads))
        order.append(rows.nonzero()[:, 0])
    back = torch.cat(order).argsort()
    return InnerStep(**{name: torch.cat([getattr(part, name) for part in parts])[back] for name in vars(parts[0])})


def _step(
    inner: InnerMethod, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData, threads: RowThreads
) -> InnerStep:
    """`inner.step`; threads share the tasks, unless all tasks take one step together."""
    if inner.shares_policy:
        return inner.step(actor, theta, multiplier, data)
    parts = threads.map(lambda part: inner.step(actor, theta[part], multiplier[part], select(data, part)), len(theta))
    return InnerStep(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _collect(
    rollouts: Rollouts, now: Deployed, offsets: Tensor | None, informed: Tensor | None, stream: Sequence[str | int]
) -> tuple[Tensor, TensorDict]:
    """The worlds that the adapted policies play, (tasks, envs), and a rollout, which says what tasks are informed."""
    worlds = rollouts.draw_worlds(now.share, *stream)
    rollout = rollouts.collect(now.theta, *stream, fallback=now.fallback, worlds=worlds, offsets=offsets)
    if informed is not None:
        rollout["informed"] = informed[:, None, None, None].expand(*rollout.shape, 1)
    return worlds, rollout


def _draw_offsets(
    exploration: Exploration | None,
    rollouts: Rollouts,
    tasks: Sequence[Task],
    taken: Tensor,
    informed: Tensor | None,
    stream: Sequence[str | int],
) -> Tensor | None:
    """What is added to the context in each world, on the CPU, (tasks, envs, C); None for nothing.

    Args:
        exploration: None if contexts do not differ.
        rollouts: draw the random numbers.
        tasks: those of the rows.
        taken: how many steps each task has taken, (tasks,).
        informed: which tasks are told what is hidden of them, bool, (tasks,); None for no task.
        stream: names the random stream.
    """
    if exploration is None:
        return None
    std = exploration.std * exploration.decay ** taken.cpu()
    drawn = std[:, None, None] * rollouts.draw_noise(exploration.size, *stream)
    return drawn if informed is None else exploration.told(tasks)[:, None].where(informed.cpu()[:, None, None], drawn)


def _move_context(
    step: InnerStep,
    exploration: Exploration | None,
    inner: InnerMethod,
    estimator: AdvantageEstimator,
    before: Stage,
    ranks: Ranks,
) -> InnerStep:
    """`step` from the stage `before`, and after it the step of the context, which no trust region bounds.

    Tasks that share one policy keep the context that they share.
    """
    if exploration is None or inner.shares_policy:
        return step
    actor, data = estimator.actor, before.data
    mask = actor.mask("context")
    assert mask is not None, "None stands for all parameters"
    _, weight = inner.judge(actor, before.theta, before.multiplier, data)
    move = exploration.context_step(before.rollout, weight, discount=estimator.limit_discount, ranks=ranks)
    theta = step.theta.clone()
    theta[:, mask.bool()] += move
    with torch.no_grad():
        return replace(step, theta=theta, kl=mean_kl(actor, theta, data))


def _hold(step: InnerStep, before: Stage, *, may_move: Tensor, whole: bool) -> InnerStep:
    """`step`, but a task whose data or step is not finite keeps the parameters and the multiplier of `before`.

    So does a task outside `may_move`, bool, (tasks,): other policies have played in its data. With `whole`, the step is
    one that all tasks take together. It was computed without the data of broken tasks, and they take it as well.
    """
    sound = finite_rows([step.theta, step.multiplier]) & may_move
    sound = sound if whole else sound & before.finite
    return replace(
        step,
        theta=step.theta.where(sound[:, None], before.theta),
        multiplier=step.multiplier.where(sound, before.multiplier),
        kl=step.kl.where(sound, torch.zeros_like(step.kl)),
        step_share=step.step_share.where(sound, torch.zeros_like(step.step_share)),
    )


def pull_back(stages: Sequence[Stage], actor: Actor, inner: InnerMethod) -> PullBack:
    """Maps gradients in the parameters of the last stage to gradients in those of the first one."""
    steps = [
        inner.pull_back(actor, before.theta, before.multiplier, before.data, after.theta - before.theta)
        for before, after in pairwise(stages)
    ]
    return lambda gradient: reduce(lambda rows, step: step(rows), reversed(steps), gradient)
