"""C-MAML as a LightningModule: the outer update by manual optimisation."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from cmaml_pl.adaptation import Stage, adapt, sound_stages
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.math.advantages import episode_cost_from_values
from cmaml_pl.nets.networks import GaussianActor, NoValue, ValueNetwork
from cmaml_pl.outer.base import OuterMethod
from cmaml_pl.outer.safety import safety_gradient, safety_weight
from cmaml_pl.outer.trust_region import limit_step
from cmaml_pl.rollout.rollouts import Rollouts
from cmaml_pl.rollout.task_data import AdvantageEstimator, TaskData
from cmaml_pl.tasks.task import Task


class CMAML(LightningModule):
    """Constrained model-agnostic meta reinforcement learning (arXiv 2406.14047).

    A batch is a list of tasks, and an epoch is one meta-iteration. Callbacks find the meta-policy's own rollouts of the
    iteration in `pre`, which is None if one of them has dropped it; the multiplier eta and the safety critic are theirs
    to change.

    Args:
        actor: the meta-policy pi_theta.
        reward_critic: V_r, shared by the tasks, fitted by a callback; NoValue where each task has its own alone.
        safety_critic: V_C, the global safety critic, fitted by a callback.
        inner: adapts to a task.
        outer: gives the meta-gradient.
        rollouts: collects experience.
        gamma: discount of the reward.
        cost_gamma: discount of the cost.
        gae_lambda: of the advantages.
        ridge: of the critics' correction for each task.
        eta: first value of the safety term's multiplier.
        safety_weighting: "ratio" for w(eta) = eta / (1 + eta), "raw" for eta.
        dead_band: whether the safety term acts only while the meta-policy costs more than its limit.
        safety_log_std: whether the safety term moves log_std as well.
        seed: of every random stream.
    """

    eta: Tensor
    multiplier: Tensor
    env_steps: Tensor

    def __init__(
        self,
        *,
        actor: GaussianActor,
        reward_critic: ValueNetwork | NoValue,
        safety_critic: ValueNetwork,
        inner: InnerMethod,
        outer: OuterMethod,
        rollouts: Rollouts,
        gamma: float,
        cost_gamma: float,
        gae_lambda: float,
        ridge: float,
        eta: float,
        safety_weighting: str,
        dead_band: bool,
        safety_log_std: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.actor, self.reward_critic, self.safety_critic = actor, reward_critic, safety_critic
        self.inner, self.outer, self.rollouts, self.ranks = inner, outer, rollouts, rollouts.ranks
        self.estimator = AdvantageEstimator(
            actor, reward_critic, safety_critic, gamma=gamma, cost_gamma=cost_gamma, lmbda=gae_lambda, ridge=ridge
        )
        self.safety_weighting, self.dead_band, self.safety_log_std = safety_weighting, dead_band, safety_log_std
        self.seed = seed
        # not persistent: where eta adapts, the callback that adapts it keeps it; elsewhere the configuration does
        self.register_buffer("eta", torch.tensor(float(eta)), persistent=False)
        self.register_buffer("multiplier", torch.tensor(float(inner.multiplier_init)))
        self.register_buffer("env_steps", torch.zeros((), dtype=torch.int64))
        self.pre: Stage | None = None
        self._ended: float | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The meta-optimiser."""
        return self.outer.optimizer(self.actor.parameters())

    def on_fit_start(self) -> None:
        """Make sure that all ranks compute the same."""
        self.ranks.require_same(repr(sorted(self.hparams.items())))

    def training_step(self, tasks: list[Task], batch_idx: int) -> None:
        """One meta-iteration: adapt to every task, then move the initialisation."""
        started = self._ended or time.perf_counter()
        iteration, failures = self.current_epoch, self.rollouts.env.failures
        start, inner = self.actor.vector(), self.outer.adaptation(self.inner, self.ranks)

        played = self.adapt(tasks, inner.steps, ("train", iteration), inner=inner)
        stages, broken = sound_stages(played, self.ranks)
        pre, post = stages[0], stages[-1]
        adapted, multiplier = self.outer.last_step(self.actor, inner, post.theta, post.multiplier, post.data)

        safety = replace(pre.data, cost_advantage=self.estimator.safety_advantage(pre.rollout))
        weight = self.safety_weight(safety)
        for _ in range(self.outer.passes):
            theta = self.actor.vector()
            # as theta moves, first order takes every adapted policy along with it
            gradient = self.outer.gradient(self.actor, theta, adapted + (theta - start), multiplier, post.data)
            if weight > 0:
                direction = safety_gradient(self.actor, theta, safety, include_log_std=self.safety_log_std)
                gradient = gradient + weight * direction
            gradient = self.ranks.average(gradient, len(adapted))
            self._meta_step(gradient)
        kl, share = limit_step(self.actor, start, pre.data, max_kl=self.outer.max_kl, ranks=self.ranks)

        self.actor.normaliser.update(pre.rollout["observation"], self.ranks)
        # lambda's start is learned as Reptile learns theta's: it moves toward where the tasks' multipliers ended
        self.multiplier.lerp_(self.ranks.mean(multiplier), inner.multiplier_carry)
        steps = self.ranks.size * sum(stage.rollout.numel() for stage in played)
        self.env_steps += steps
        self.pre = pre
        self._log_stages(stages, "", len(tasks) - broken)
        self._log({"outer/gradient_norm": gradient.norm(), "outer/kl": kl, "outer/step_share": share}, len(tasks))
        self._log({"policy/std": self.actor.log_std.exp().mean()}, len(tasks))
        self._ended = time.perf_counter()
        speed = steps / (self._ended - started)
        self._log({"throughput/env_steps": self.env_steps.clone(), "throughput/env_steps_per_s": speed}, len(tasks))
        failed = self.ranks.total(self.rollouts.env.failures - failures)
        self._log({"throughput/failed_episodes": failed}, len(tasks))
        if self.ranks.size > 1:
            communication = self.ranks.take_seconds() / (self._ended - started)
            self._log({"throughput/communication_share": communication}, len(tasks))
        self._log({"health/dropped_tasks": broken}, len(tasks))

    def on_validation_end(self) -> None:
        """Keep validation out of the throughput, which otherwise counts all from one iteration's end to the next's."""
        self._ended = None
        self.ranks.take_seconds()

    def validation_step(self, tasks: list[Task], batch_idx: int) -> None:
        """Adapt to held-out tasks; nothing is learned. Every validation draws the same random numbers."""
        self._log_stages(self.adapt(tasks, self.inner.steps, ("validation", batch_idx)), "val/", len(tasks))

    def adapt(
        self,
        tasks: Sequence[Task],
        steps: int,
        stream: Sequence[str | int],
        *,
        theta: Tensor | None = None,
        inner: InnerMethod | None = None,
    ) -> list[Stage]:
        """Adapt the meta-policy, or `theta` (P,) in its place, in `steps` steps; see `cmaml_pl.adaptation.adapt`.

        It adapts by the configured inner method, or by `inner` in its place.
        """
        return adapt(
            tasks,
            self.actor.vector() if theta is None else theta,
            self.multiplier,
            steps=steps,
            rollouts=self.rollouts,
            estimator=self.estimator,
            inner=inner or self.inner,
            stream=stream,
        )

    def safety_weight(self, pre: TaskData) -> Tensor:
        """w(eta), scalar; 0 in the dead band, where the meta-policy's own cost is within its limit."""
        within = self.ranks.mean(pre.episode_cost) <= self.ranks.mean(pre.cost_limit)
        if self.dead_band and within:
            return torch.zeros_like(self.eta)
        return safety_weight(self.eta, self.safety_weighting)

    @torch.no_grad()
    def predicted_episode_cost(self) -> Tensor:
        """Jhat_C: what an episode of the meta-policy costs by the safety critic, undiscounted, scalar."""
        assert self.pre is not None, "no meta-iteration has run yet"
        rollout = self.pre.rollout
        value = self.safety_critic(self.actor.normaliser(rollout["observation"]))
        done = rollout["next", "done"]
        return self.ranks.mean(episode_cost_from_values(value, done, gamma=self.estimator.cost_gamma))

    def _meta_step(self, gradient: Tensor) -> None:
        """Theta <- meta-optimiser step on g."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.zero_grad()
        parameters = list(self.actor.parameters())
        pieces = gradient.split([p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).clone()
        optimizer.step()

    def _log_stages(self, stages: list[Stage], prefix: str, tasks: int) -> None:
        pre, post = stages[0], stages[-1]
        steps = [stage.step for stage in stages if stage.step is not None]
        rows = {
            "pre/return": pre.data.episode_return,
            "pre/cost": pre.data.episode_cost,
            "post/return": post.data.episode_return,
            "post/cost": post.data.episode_cost,
            "post/violation_rate": (post.data.episode_cost > post.data.cost_limit).float(),
            "lambda/mean": post.multiplier,
            "inner/kl": torch.stack([step.kl for step in steps]).mean(dim=0),
            "inner/rejected_steps": torch.stack([step.step_share == 0 for step in steps]).float().mean(dim=0),
            "inner/infeasible_steps": torch.stack([step.infeasible for step in steps]).float().mean(dim=0),
            "limit": post.data.cost_limit,
        }
        means = self.ranks.mean(torch.stack(list(rows.values()), dim=1)).unbind()
        metrics = dict(zip(rows, means, strict=True))
        # J - max(0, J_C - d), one number to choose settings by; that they count one for one is chosen, not tuned
        excess = (metrics["post/cost"] - metrics.pop("limit")).clamp(min=0)
        metrics["post/penalised_return"] = metrics["post/return"] - excess
        if not prefix:
            metrics["eta"] = self.eta.clone()
        self._log({prefix + name: value for name, value in metrics.items()}, tasks)

    def _log(self, metrics: Mapping[str, Tensor | float], tasks: int) -> None:
        self.log_dict(
            # float64: environment steps outgrow the whole numbers that float32 holds
            {name: torch.as_tensor(value, dtype=torch.float64) for name, value in metrics.items()},
            batch_size=tasks,
        )
