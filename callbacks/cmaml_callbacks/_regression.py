"""The base class of the callbacks that fit a critic: its optimiser, fitting, logging, and resuming."""

from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensordict import TensorDict
from torch import Tensor

from cmaml_callbacks._checks import iteration_of, require_cmaml
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.algorithm.record import MetaIteration
from cmaml_pl.critics.estimation import Transitions
from cmaml_pl.critics.fitting import explained_variance, fit_critic, gather_samples
from cmaml_pl.nets.networks import ValueNetwork
from cmaml_pl.seeding import derive_generator


class CriticRegression(Callback):
    """Fits a critic with Adam after every meta-iteration, on the rollouts of all tasks before adaptation (*pre*).

    Args:
        lr: Adam's step size.
        passes: number of passes over the rollouts in each meta-iteration.
        minibatch: number of samples in a step.
        samples: largest number of samples, see `gather_samples`.

    Attributes:
        name: prefix of the metrics, and name of the random stream.
    """

    name: str

    def __init__(self, *, lr: float, passes: int, minibatch: int, samples: int = 131_072) -> None:
        if not (lr > 0 and min(passes, minibatch, samples) >= 1):
            given = f"{lr}, {passes}, {minibatch}, {samples}"
            raise ValueError(f"lr > 0, passes >= 1, minibatch >= 1 and samples >= 1 are needed, not {given}")
        self.lr, self.passes, self.minibatch, self.samples = lr, passes, minibatch, samples
        self._optimizer: torch.optim.Optimizer | None = None
        self._restored: dict[str, Any] | None = None

    @abstractmethod
    def critic(self, module: CMAML) -> ValueNetwork:
        """The critic of `module` that is fitted."""

    @abstractmethod
    def states(self, module: CMAML, rollout: TensorDict) -> Transitions:
        """The states of a rollout [tasks, envs, time] as the critic sees them."""

    @abstractmethod
    def target(self, module: CMAML, rollout: TensorDict, states: Transitions) -> Tensor:
        """The values that the critic is fitted to, (tasks, envs, time, 1), on a rollout [tasks, envs, time].

        `states` are the states of this rollout.
        """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the critic's optimiser; in a resumed run it gets the checkpoint's state."""
        critic = self.critic(require_cmaml(self, pl_module))
        self._optimizer = torch.optim.Adam(critic.parameters(), lr=self.lr)
        if self._restored is not None:
            self._optimizer.load_state_dict(self._restored)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Fit the critic, and log how well it predicted these data before it was fitted to them."""
        module = require_cmaml(self, pl_module)
        record = iteration_of(outputs)
        metrics = {**self.fit(module, record.rollout, iteration=trainer.current_epoch), **self.tell(module, record)}
        module.log_dict({f"{self.name}/{name}": value for name, value in metrics.items()}, batch_size=len(batch))

    def fit(self, module: CMAML, rollout: TensorDict, *, iteration: int) -> dict[str, Tensor]:
        """Fit the critic once, on the meta-policy's rollout [tasks, envs, time].

        Returns:
            "loss", over the last pass, and "explained_variance", before the fit; both scalar.
        """
        assert self._optimizer is not None, "on_fit_start has not run"
        # the normaliser is already updated, so the critic sees observations as in the next meta-iteration
        critic, states = self.critic(module), self.states(module, rollout)
        target = self.target(module, rollout, states)
        generator = derive_generator(module.seed, self.name, iteration)
        samples = gather_samples(states.features, target, most=self.samples, generator=generator, ranks=module.ranks)
        explained = explained_variance(critic, *samples)
        loss = fit_critic(
            critic, self._optimizer, *samples, passes=self.passes, minibatch=self.minibatch, generator=generator
        )
        return {"loss": loss, "explained_variance": explained}

    def tell(self, module: CMAML, record: MetaIteration) -> dict[str, Tensor]:
        """Further metrics, of the fitted critic."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state; the critic itself is saved as a part of the module."""
        return {} if self._optimizer is None else {"optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the optimiser's state until `on_fit_start` makes the optimiser."""
        self._restored = state_dict.get("optimizer")
