"""The updates of the global safety critic."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from cmaml_callbacks._checks import require_cmaml
from cmaml_callbacks._regression import Regression
from cmaml_pl.module import CMAML
from cmaml_pl.nets.critics import cost_to_go
from cmaml_pl.seeding import derive_generator


class SafetyCritic(Callback):
    """Regress V_C on the cost-to-go of all tasks' own *pre* rollouts, after every meta-iteration.

    The critic is global: tasks share the cost function, so one network serves them all and learns from all of them.

    Args:
        lr: Adam's step size.
        passes: over the rollouts a meta-iteration.
        minibatch: samples in a step.
    """

    def __init__(self, *, lr: float, passes: int, minibatch: int) -> None:
        self._regression = Regression(lr=lr, passes=passes, minibatch=minibatch)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the critic's optimiser, or go on with the checkpoint's."""
        self._regression.start(require_cmaml(self, pl_module).safety_critic)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Fit, then log how well the critic had predicted data that it had not seen."""
        module = require_cmaml(self, pl_module)
        metrics = self.fit(module, iteration=trainer.current_epoch)
        module.log_dict({f"safety_critic/{name}": value for name, value in metrics.items()}, batch_size=len(batch))

    def fit(self, module: CMAML, *, iteration: int) -> dict[str, Tensor]:
        """One regression on `module.pre`; returns loss, explained_variance and episode_cost."""
        assert module.pre is not None, "no meta-iteration has run"
        states, cost = module.estimator.transitions(module.pre.rollout), module.pre.rollout["next", "cost"]
        target = cost_to_go(states, cost, gamma=module.estimator.cost_gamma)
        generator = derive_generator(module.seed, "safety_critic", iteration)
        metrics = self._regression.fit(module.safety_critic, states.features, target, generator=generator)
        return {**metrics, "episode_cost": module.predicted_episode_cost()}

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's moments."""
        return self._regression.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the optimiser exists."""
        self._regression.load_state_dict(state_dict)
