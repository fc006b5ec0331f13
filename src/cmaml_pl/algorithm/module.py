"""C-MAML as a LightningModule; the outer update uses Lightning's manual optimisation."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from tensordict import TensorDict
from torch import Tensor

from cmaml_pl.algorithm.adaptation import Stage, adapt, method_at, pull_back, sound_stages, steps_between
from cmaml_pl.algorithm.exploration import Exploration
from cmaml_pl.algorithm.record import MetaIteration, informed_metrics, penalised_return, stage_metrics
from cmaml_pl.deployment.base import Deployment
from cmaml_pl.distributed.threads import ONE_THREAD, RowThreads
from cmaml_pl.inner.base import InnerMethod, PullBack
from cmaml_pl.math.advantages import episode_cost_from_values
from cmaml_pl.outer.base import MetaBatch, MetaGoal, OuterMethod, first_order
from cmaml_pl.outer.lengths import move_lengths
from cmaml_pl.outer.safety import safety_gradient, safety_weight
from cmaml_pl.outer.step_limit import limit_step
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.rollout.task_data import AdvantageEstimator, TaskData
from cmaml_pl.task import Task


class CMAML(LightningModule):
    """Constrained model-agnostic meta reinforcement learning (arXiv 2406.14047).

    A batch is a list of tasks, and an epoch is one meta-iteration. The training step returns a MetaIteration as
    `outputs["iteration"]`, from which callbacks fit the critics and adapt the multiplier eta; the module itself changes
    neither. The test step returns `outputs["stages"]`, which callbacks measure.

    The module needs environments, and a checkpoint does not hold them: `cmaml_pl.load_run(path)` makes both from a run.

    Args:
        estimator: holds the meta-policy pi_theta and its critics: the reward critic V_r and the global safety critic
            V_C.
        inner: the method that adapts a policy to a task.
        outer: the method that gives the meta-gradient.
        deployment: which policies play the episodes of a meta-test.
        rollouts: collects experience.
        eta: first value of the safety term's multiplier.
        safety_weighting: "ratio" for w(eta) = eta / (1 + eta), "raw" for w(eta) = eta.
        dead_band: whether the safety term acts only while the meta-policy costs more than `meta_limit`.
        safety_margin: share of the limit that stands for it in the dead band and in the ascent of eta.
        safety_log_std: whether the safety term moves log_std as well.
        seed: the configuration's seed, from which every random stream is derived.
        threads: share the tasks of the updates on the CPU.
        exploration: how contexts differ between the worlds of a task; None if they do not.
    """

    deployed: Tensor
    eta: Tensor
    multiplier: Tensor
    env_steps: Tensor
    step_lengths: Tensor | None

    def __init__(
        self,
        *,
        estimator: AdvantageEstimator,
        inner: InnerMethod,
        outer: OuterMethod,
        deployment: Deployment,
        rollouts: Rollouts,
        eta: float,
        safety_weighting: str,
        dead_band: bool,
        safety_margin: float,
        safety_log_std: bool,
        seed: int,
        threads: RowThreads = ONE_THREAD,
        exploration: Exploration | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # assigned to the module one by one, so that Lightning moves and saves them
        self.actor, self.reward_critic = estimator.actor, estimator.reward_critic
        self.safety_critic, self.estimator = estimator.safety_critic, estimator
        self.inner, self.outer, self.rollouts, self.ranks = inner, outer, rollouts, rollouts.ranks
        self.deployment = deployment
        self.safety_weighting, self.dead_band, self.safety_log_std = safety_weighting, dead_band, safety_log_std
        self.safety_margin = safety_margin
        self.seed, self._threads, self.exploration = seed, threads, exploration
        self._measured: list[tuple[int, dict[str, Tensor], Tensor]] = []  # of each batch, see penalised_return
        # not persistent: if eta adapts, the callback Eta saves its value; otherwise the configuration gives it
        self.register_buffer("eta", torch.tensor(float(eta)), persistent=False)
        # the running mean of theta, see OuterMethod.average
        self.register_buffer("deployed", self.actor.vector())
        self.register_buffer("multiplier", torch.tensor(float(inner.multiplier_init)))
        self.register_buffer("env_steps", torch.zeros((), dtype=torch.int64))
        # learned factors on the lengths of the adaptation steps; a run that learns none does not save them
        self.register_buffer("step_lengths", torch.ones(inner.steps) if outer.radius_lr > 0 else None)

    @property
    def threads(self) -> RowThreads:
        """Those that share the tasks of the updates; a GPU computes all tasks at once by itself."""
        return self._threads if self.device.type == "cpu" else ONE_THREAD

    @classmethod
    def load_from_checkpoint(cls, *args: object, **kwargs: object) -> NoReturn:
        """Not supported, because a checkpoint does not hold the environments that the module needs."""
        raise NotImplementedError("A CMAML needs environments: cmaml_pl.load_run(path) makes them, and loads it.")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The meta-optimiser."""
        return self.outer.optimizer(self.actor.parameters())

    def on_fit_start(self) -> None:
        """Check that all ranks have the same configuration.

        Raises:
            UserError: they have not.
        """
        shared = {key: value for key, value in self.hparams.items() if key != "logger.id"}  # only the first rank logs
        self.ranks.require_same(repr(sorted(shared.items())))

    def training_step(self, tasks: list[Task], batch_idx: int) -> dict[str, MetaIteration]:
        """One meta-iteration: adapt to every task, then move the initialisation."""
        start, inner = self.actor.vector(), self.outer.adaptation(self.inner, self.ranks)

        stream = ("train", self.current_epoch)
        played = self.adapt(tasks, inner.steps, stream, theta=start, inner=inner, learning=True)
        stages, broken = sound_stages(played, self.ranks)
        pre, post, uninformed = stages[0], stages[-1], [stage.uninformed() for stage in stages]
        last = method_at(inner, self.step_lengths, inner.steps)
        adapted, multiplier, weight = self.outer.last_step(self.actor, last, post.theta, post.multiplier, post.data)
        goals = [MetaGoal(adapted, weight, post.data, self._through(stages, inner), steps_between(stages))]
        if self.outer.every_step:
            goals += [self._goal(stages[: k + 1], inner) for k in range(len(stages) - 1)]

        safety = self.estimator.safety_data(pre.data, pre.rollout, self.ranks)
        batch = MetaBatch(start, safety, goals, self.ranks, self.threads)
        gradient = self._move_theta(batch, self.safety_weight(uninformed[0].data))
        kl, share = limit_step(self.actor, start, pre.data, max_kl=self.outer.max_kl, ranks=self.ranks)

        self.deployed.lerp_(self.actor.vector(), max(1 / self.outer.average, 1 / (self.current_epoch + 1)))
        self.actor.normaliser.update(pre.rollout["observation"], self.ranks)
        # the start of lambda moves toward the mean of the tasks' last multipliers, as in Reptile
        mean_multiplier = self.ranks.mean(multiplier if post.informed is None else multiplier[~post.informed])
        self.multiplier.lerp_(mean_multiplier, inner.multiplier_carry)
        env_steps = self.ranks.size * sum(stage.rollout.numel() for stage in played)
        self.env_steps += env_steps
        step = {"outer/gradient_norm": gradient.norm(), "outer/kl": kl, "outer/step_share": share}
        told = informed_metrics(pre, self.ranks)
        measured, limit = stage_metrics(uninformed, self.ranks)
        metrics = {**measured, **told, "eta": self.eta.clone(), **step}
        metrics["post/penalised_return"] = penalised_return((len(tasks), measured, limit))
        metrics |= self._learn_lengths(batch)
        metrics["lambda/mean"] = mean_multiplier  # with what the adapted policies' own costs have made of it
        metrics["policy/std"] = self.actor.mean_std(pre.data.features)
        self._log({**metrics, "health/dropped_tasks": broken}, len(tasks))
        return {"iteration": MetaIteration(uninformed[0], pre.rollout, broken, env_steps, metrics)}

    def _move_theta(self, batch: MetaBatch, eta_weight: Tensor) -> Tensor:
        """Take all passes over a meta-batch; the gradient of the last one, with the safety term, (P,)."""
        for _ in range(self.outer.passes):
            theta = self.actor.vector()
            gradient = self.outer.direction(self.actor, theta, batch)
            if eta_weight > 0:
                direction = safety_gradient(self.actor, theta, batch.pre, include_log_std=self.safety_log_std)
                gradient = gradient + eta_weight * direction
            gradient = self.ranks.average(gradient, len(batch.goals[0].adapted))
            self._meta_step(self.outer.precondition(self.actor, theta, gradient, batch))
        return gradient

    def _learn_lengths(self, batch: MetaBatch) -> dict[str, Tensor]:
        """Move the lengths of the adaptation steps, if they are learned; the metric that tells them."""
        if self.step_lengths is None:
            return {}
        gradient = self.outer.length_gradient(self.actor, batch)
        self.step_lengths = move_lengths(self.step_lengths, gradient, lr=self.outer.radius_lr)
        return {"inner/length": self.step_lengths.mean()}

    def _through(self, stages: list[Stage], inner: InnerMethod) -> PullBack:
        return pull_back(stages, self.actor, inner) if self.outer.differentiates else first_order

    def _goal(self, stages: list[Stage], inner: InnerMethod) -> MetaGoal:
        """What the policies of the last of some stages are to do better, see OuterMethod.every_step."""
        last = stages[-1]
        method = method_at(inner, self.step_lengths, len(stages) - 1)
        _, weight = method.judge(self.actor, last.theta, last.multiplier, last.data)
        return MetaGoal(last.theta, weight, last.data, self._through(stages, inner), steps_between(stages))

    def validation_step(self, tasks: list[Task], batch_idx: int) -> None:
        """Adapt to held-out tasks and log metrics of the adapted policies.

        Nothing is learned, and every validation draws the same random numbers.
        """
        self._adapt_to_measure(tasks, "validation", batch_idx, prefix="val/")

    def test_step(self, tasks: list[Task], batch_idx: int) -> dict[str, list[Stage]]:
        """Adapt to test tasks, deployed as `deployment` decides; callbacks measure the returned stages.

        Lightning's Trainer needs `inference_mode=False`, because adaptation computes gradients.
        """
        return {"stages": self._adapt_to_measure(tasks, "test", batch_idx, prefix="test/", deployment=self.deployment)}

    def _adapt_to_measure(
        self, tasks: list[Task], stream: str, batch_idx: int, *, prefix: str, deployment: Deployment | None = None
    ) -> list[Stage]:
        stages = self.adapt(tasks, self.inner.steps, (stream, batch_idx), deployment=deployment)
        metrics, limit = stage_metrics(stages, self.ranks)
        metrics["lambda/mean"] = self.ranks.mean(stages[-1].multiplier)
        self._log({prefix + name: value for name, value in metrics.items()}, len(tasks))
        self._measured.append((len(tasks), metrics, limit))
        return stages

    def on_validation_epoch_end(self) -> None:
        """Log what is no mean of the batches' own."""
        self._log_penalised("val/")

    def on_test_epoch_end(self) -> None:
        """Log what is no mean of the batches' own."""
        self._log_penalised("test/")

    def _log_penalised(self, prefix: str) -> None:
        self._log({prefix + "post/penalised_return": penalised_return(*self._measured)}, 1)
        self._measured.clear()

    def adapt(
        self,
        tasks: Sequence[Task],
        steps: int,
        stream: Sequence[str | int],
        *,
        theta: Tensor | None = None,
        inner: InnerMethod | None = None,
        deployment: Deployment | None = None,
        learning: bool = False,
    ) -> list[Stage]:
        """Adapt a policy to tasks; see `cmaml_pl.algorithm.adaptation.adapt` for what is returned.

        Args:
            tasks: at most as many as a batch has, `train.tasks_per_batch`.
            steps: K, the number of adaptation steps.
            stream: names the random streams of the rollouts.
            theta: parameters that every task starts from, (P,); None takes those that are deployed.
            inner: the adaptation method; None takes the configured one.
            deployment: which policies play the episodes; None for the adapted ones. `self.deployment` is the configured
                strategy.
            learning: whether this is meta-training, in which `exploration` informs some of the tasks.

        Raises:
            UserError: there are no tasks, or too many.
        """
        return adapt(
            tasks,
            self.deployed if theta is None else theta,
            self.multiplier,
            steps=steps,
            rollouts=self.rollouts,
            estimator=self.estimator,
            inner=inner or self.inner,
            stream=stream,
            threads=self.threads,
            deployment=deployment,
            lengths=self.step_lengths,
            exploration=self.exploration,
            learning=learning,
        )

    def safety_weight(self, pre: TaskData) -> Tensor:
        """The weight w(eta) of the safety term, scalar.

        With `dead_band` it is 0 while the meta-policy's cost before adaptation is within `meta_limit`.
        """
        if self.dead_band and self.ranks.mean(pre.episode_cost) <= self.meta_limit(pre):
            return torch.zeros_like(self.eta)
        return safety_weight(self.eta, self.safety_weighting)

    def meta_limit(self, pre: TaskData) -> Tensor:
        """What the meta-policy's cost is held to, scalar: the tasks' mean limit, less a margin."""
        return self.safety_margin * self.ranks.mean(pre.cost_limit)

    def predicted_episode_cost(self, rollout: TensorDict) -> Tensor:
        """Jhat_C, scalar: the mean of `predicted_episode_costs` over the tasks of all ranks."""
        return self.ranks.mean(self.predicted_episode_costs(rollout))

    @torch.no_grad()
    def predicted_episode_costs(self, rollout: TensorDict) -> Tensor:
        """The cost per episode, in the limit's unit, that the safety critic predicts for a rollout, (tasks,).

        `rollout` is [tasks, envs, time].
        """
        states = self.estimator.cost_transitions(rollout)
        value, done = self.safety_critic(states.features), states.done
        discounts = {"gamma": self.estimator.cost_gamma, "discount": self.estimator.limit_discount}
        return episode_cost_from_values(value, done, **discounts)

    def close(self) -> None:
        """Close the environments, and end the threads."""
        self.rollouts.close()
        self._threads.close()

    def _meta_step(self, gradient: Tensor) -> None:
        """Let the meta-optimiser take one step of theta along -g; `gradient` is g, (P,)."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.zero_grad()
        parameters = list(self.actor.parameters())
        pieces = gradient.split([p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).clone()
        optimizer.step()

    def _log(self, metrics: Mapping[str, Tensor | float], tasks: int) -> None:
        self.log_dict(
            # float64, because float32 cannot hold large numbers of environment steps exactly
            {name: torch.as_tensor(value, dtype=torch.float64) for name, value in metrics.items()},
            batch_size=tasks,
        )
