"""Warns of signs that a run is failing."""

import logging
import statistics
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from cmaml_callbacks._checks import iteration_of, require_cmaml
from cmaml_pl.algorithm.adaptation import Stage
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.math.advantages import episode_sums
from cmaml_pl.tracking.wandb_logger import find_wandb_logger

logger = logging.getLogger(__name__)


class Health(Callback):
    """Warns of three signs that a run is failing, in the log and, if W&B is used, by a W&B alert.

    - *rising variance*: the costs of the meta-policy's episodes vary more and more, so that their mean, which the
      multipliers follow, becomes less and less reliable.
    - *unseen violation*: the meta-policy has been over its limit for a long time, but the safety critic predicts a cost
      within what eta holds it to, so that eta does not rise. Only where eta follows the critic.
    - *no progress*: the return after adaptation is no higher than in the first meta-iterations, and no cost that was
      over its limit has come down.

    A sign is reported once. It is reported again only after it has been absent for `window` meta-iterations. The number
    of signs, `health/signs`, and `health/cost_variance` are logged. This callback belongs after `SafetyCritic` in the
    list of callbacks, so that the critic that it judges is already fitted to the meta-iteration.

    Args:
        window: number of meta-iterations that are averaged. A batch has few tasks: on nav2d and PointGoal1 the cost of
            one meta-iteration differs from the trend by up to a half, and the mean of ten by a tenth.
        variance_factor: the variance has risen if it is this many times that of the window before. A factor of two is
            more than the sampling of heavy-tailed costs gives: ten batches of 32 episodes leave an uncertainty of about
            a quarter.
        patience: number of meta-iterations in a row for an unseen violation. The critic is fitted in each of them, and
            when meta-training begins it lags three to five of them behind the changing policy.
        margin: share by which the cost must be over the limit; without it, noise around the limit would count.
        grace: number of meta-iterations before "no progress" can be reported. On nav2d and PointGoal1 the return rises
            clearly within 20.
        standard_errors: number of standard errors by which the means of two windows must differ to count as different.
        eta_follows_critic: whether eta adapts to what the safety critic predicts.
    """

    def __init__(
        self,
        *,
        window: int = 10,
        variance_factor: float = 2.0,
        patience: int = 10,
        margin: float = 0.1,
        grace: int = 50,
        standard_errors: float = 2.0,
        eta_follows_critic: bool = True,
    ) -> None:
        if not (window >= 2 and variance_factor > 1 and patience >= 1 and margin >= 0 and standard_errors >= 0):
            raise ValueError(
                "window >= 2, variance_factor > 1, patience >= 1, margin >= 0, standard_errors >= 0 are needed"
            )
        if grace < 2 * window:
            raise ValueError(f"grace is {grace}, but must leave two windows of {window} meta-iterations to compare")
        self.window, self.variance_factor, self.patience = window, variance_factor, patience
        self.margin, self.grace, self.standard_errors = margin, grace, standard_errors
        self.eta_follows_critic = eta_follows_critic
        self._history: dict[str, list[float]] = {name: [] for name in ("variance", "unseen", "return", "cost")}
        self._last_seen: dict[str, int] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the kind of the module."""
        require_cmaml(self, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look for signs in the meta-iteration, unless it was dropped; log them and warn of new ones."""
        module, record = require_cmaml(self, pl_module), iteration_of(outputs)
        if record.dropped:
            return
        post_return, post_cost = (float(record.metrics[f"post/{name}"]) for name in ("return", "cost"))
        signs = self.observe(module, record.pre, post_return=post_return, post_cost=post_cost)
        metrics = {"signs": float(len(signs)), "cost_variance": self._history["variance"][-1]}
        module.log_dict({f"health/{name}": value for name, value in metrics.items()}, batch_size=len(batch))
        for sign in self.new(signs):
            self.warn(trainer, sign, signs[sign])

    def observe(self, module: CMAML, pre: Stage, *, post_return: float, post_cost: float) -> dict[str, str]:
        """Add a meta-iteration to the history. Return sign -> message to the user, for the signs that there are now."""
        after, data = pre.rollout["next"], pre.data
        sums = episode_sums(after["cost"], after["done"], discount=module.estimator.limit_discount)
        cost, limit = (float(module.ranks.mean(rows)) for rows in (data.episode_cost, data.cost_limit))
        predicted = float(module.predicted_episode_cost(pre.rollout))
        held_to = module.safety_margin * limit  # `module.meta_limit`, without a message to other ranks
        unseen = self.eta_follows_critic and cost > (1 + self.margin) * limit and predicted <= held_to
        _, _, variance = module.ranks.moments(sums[after["done"]])
        self._history["variance"].append(float(variance))
        self._history["unseen"].append(float(unseen))
        self._history["return"].append(post_return)
        self._history["cost"].append(post_cost)
        found = {
            "rising variance": self.rising_variance(limit),
            "unseen violation": self.unseen_violation(cost, predicted, limit),
            "no progress": self.no_progress(limit),
        }
        return {sign: message for sign, message in found.items() if message}

    def rising_variance(self, limit: float) -> str | None:
        """A message if the variance of episode costs has risen, otherwise None.

        A standard deviation up to the limit is not reported.
        """
        recent, before = self._history["variance"][-self.window :], self._history["variance"][: -self.window]
        if len(before) < self.window:
            return None
        now, then = statistics.fmean(recent), statistics.fmean(before[-self.window :])
        if now <= self.variance_factor * then or now <= max(limit, 1.0) ** 2:
            return None
        return (
            f"In {2 * self.window} meta-iterations the standard deviation of the meta-policy's episode costs has risen "
            f"from {then**0.5:.3g} to {now**0.5:.3g}, beside a limit of {limit:g}. Try more episodes "
            "(rollout.envs_per_task, train.tasks_per_batch) or smaller steps (outer.lr, inner.trust_region.max_kl)."
        )

    def unseen_violation(self, cost: float, predicted: float, limit: float) -> str | None:
        """A message if the safety critic misses a long violation of the limit, otherwise None.

        `cost` and `predicted` are the real and the predicted cost per episode in this meta-iteration.
        """
        last = self._history["unseen"][-self.patience :]
        if len(last) < self.patience or not all(last):
            return None
        return (
            f"For {self.patience} meta-iterations the meta-policy has cost more than its limit of {limit:g}, "
            f"now {cost:.3g}, while the safety critic predicts less, now {predicted:.3g}, so that eta does not rise. "
            "Try more fitting (critic.passes, critic.lr) or a discount nearer 1 (critic.cost_gamma)."
        )

    def no_progress(self, limit: float) -> str | None:
        """A message if neither return nor cost after adaptation has improved since the first window, otherwise None."""
        if len(self._history["return"]) < self.grace or self._gain("return") > 0:
            return None
        first_cost = statistics.fmean(self._history["cost"][: self.window])
        if first_cost > limit and self._gain("cost", sign=-1) > 0:
            return None
        first, last = (statistics.fmean(self._history["return"][part]) for part in self._ends())
        return (
            f"After {len(self._history['return'])} meta-iterations the return after adaptation is {last:.3g}; it began "
            f"with {first:.3g}. Look at outer.lr, inner/kl, inner/rejected_steps, and at whether the limit can be met."
        )

    def _ends(self) -> tuple[slice, slice]:
        return slice(None, self.window), slice(-self.window, None)

    def _gain(self, name: str, *, sign: int = 1) -> float:
        """By how much the mean of the last window is above that of the first one, minus the difference's uncertainty.

        With `sign` -1 it is by how much the mean is below.
        """
        first, last = (self._history[name][part] for part in self._ends())
        error = ((statistics.variance(first) + statistics.variance(last)) / self.window) ** 0.5
        gain: float = sign * (statistics.fmean(last) - statistics.fmean(first)) - self.standard_errors * error
        return gain

    def new(self, signs: Mapping[str, str]) -> list[str]:
        """The signs that must be reported now, because they were absent for the last `window` meta-iterations."""
        now = len(self._history["return"])
        told = [sign for sign in signs if now - self._last_seen.get(sign, -self.window - 1) > self.window]
        self._last_seen.update(dict.fromkeys(signs, now))
        return told

    def warn(self, trainer: Trainer, sign: str, message: str) -> None:
        """Write a warning to the log and, if W&B is used, send it as an alert."""
        if not trainer.is_global_zero:
            return
        logger.warning("Meta-iteration %d, %s: %s", trainer.current_epoch + 1, sign, message)
        wandb_logger = find_wandb_logger(trainer)
        if wandb_logger is not None:
            wandb_logger.experiment.alert(title=f"cmaml_pl: {sign}", text=message, level="WARN")

    def state_dict(self) -> dict[str, Any]:
        """The history of all meta-iterations, and when each sign was last there."""
        history = {name: list(values) for name, values in self._history.items()}
        return {"history": history, "last_seen": dict(self._last_seen)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the history of a checkpoint."""
        self._history = {name: list(values) for name, values in state_dict["history"].items()}
        self._last_seen = dict(state_dict["last_seen"])
