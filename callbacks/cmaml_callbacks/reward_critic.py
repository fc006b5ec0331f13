"""The updates of the reward critic that the tasks share."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cmaml_callbacks._checks import require_cmaml
from cmaml_callbacks._regression import Regression
from cmaml_pl.module import CMAML
from cmaml_pl.nets.critics import reward_to_go
from cmaml_pl.nets.networks import ValueNetwork
from cmaml_pl.seeding import derive_generator


class RewardCritic(Callback):
    """Regress V_r on the reward-to-go of all tasks' own *pre* rollouts, after every meta-iteration.

    Tasks differ in their reward, so that V_r can only be what they have in common; each task corrects it on its own
    rollouts. Without this callback and the network, that correction is all there is.

    Args:
        lr: Adam's step size.
        passes: over the rollouts a meta-iteration.
        minibatch: samples in a step.
    """

    def __init__(self, *, lr: float, passes: int, minibatch: int) -> None:
        self._regression = Regression(lr=lr, passes=passes, minibatch=minibatch)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the critic's optimiser, or go on with the checkpoint's."""
        self._regression.start(self._critic(require_cmaml(self, pl_module)))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Fit, then log how well the critic had predicted data that it had not seen."""
        module = require_cmaml(self, pl_module)
        metrics = self.fit(module, iteration=trainer.current_epoch)
        module.log_dict({f"reward_critic/{name}": value for name, value in metrics.items()}, batch_size=len(batch))

    def fit(self, module: CMAML, *, iteration: int) -> dict[str, Tensor]:
        """One regression on `module.pre`; returns loss and explained_variance."""
        assert module.pre is not None, "no meta-iteration has run"
        critic = self._critic(module)
        # observations as the next iteration will see them: the normaliser has been updated by now
        states, reward = module.estimator.transitions(module.pre.rollout), module.pre.rollout["next", "reward"]
        target = reward_to_go(critic, states, reward, gamma=module.estimator.gamma)
        generator = derive_generator(module.seed, "reward_critic", iteration)
        return self._regression.fit(critic, states.features, target, generator=generator)

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's moments."""
        return self._regression.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the optimiser exists."""
        self._regression.load_state_dict(state_dict)

    def _critic(self, module: CMAML) -> ValueNetwork:
        if not isinstance(module.reward_critic, ValueNetwork):
            raise TypeError("RewardCritic serves a module whose tasks share a reward critic, a ValueNetwork")
        return module.reward_critic
