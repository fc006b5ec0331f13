"""The updates of the global safety critic."""

from torch import Tensor

from cmaml_callbacks._regression import CriticRegression
from cmaml_pl.module import CMAML
from cmaml_pl.nets.critics import Transitions, cost_to_go
from cmaml_pl.nets.networks import ValueNetwork


class SafetyCritic(CriticRegression):
    """Regress V_C on the cost-to-go; see CriticRegression.

    The critic is global: tasks share the cost function, so one network serves them all and learns from all of them.
    """

    name = "safety_critic"

    def critic(self, module: CMAML) -> ValueNetwork:
        """V_C."""
        return module.safety_critic

    def target(self, module: CMAML, states: Transitions) -> Tensor:
        """Cost-to-go."""
        assert module.pre is not None, "no meta-iteration has run"
        return cost_to_go(states, module.pre.rollout["next", "cost"], gamma=module.estimator.cost_gamma)

    def fit(self, module: CMAML, *, iteration: int) -> dict[str, Tensor]:
        """One regression on `module.pre`; returns loss, explained_variance and episode_cost."""
        return {**super().fit(module, iteration=iteration), "episode_cost": module.predicted_episode_cost()}
