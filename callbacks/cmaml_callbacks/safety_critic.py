"""The updates of the global safety critic."""

from tensordict import TensorDict
from torch import Tensor

from cmaml_callbacks._regression import CriticRegression
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.critics.estimation import Transitions, cost_to_go
from cmaml_pl.nets.networks import ValueNetwork


class SafetyCritic(CriticRegression):
    """Regress V_C on the cost-to-go; see CriticRegression.

    The critic is global: tasks share the cost function, so one network serves them all and learns from all of them.
    """

    name = "safety_critic"

    def critic(self, module: CMAML) -> ValueNetwork:
        """V_C."""
        return module.safety_critic

    def target(self, module: CMAML, rollout: TensorDict, states: Transitions) -> Tensor:
        """Cost-to-go."""
        return cost_to_go(states, rollout["next", "cost"], gamma=module.estimator.cost_gamma)

    def fit(self, module: CMAML, rollout: TensorDict, *, iteration: int) -> dict[str, Tensor]:
        """See CriticRegression; returns loss, explained_variance and episode_cost."""
        metrics = super().fit(module, rollout, iteration=iteration)
        return {**metrics, "episode_cost": module.predicted_episode_cost(rollout)}
