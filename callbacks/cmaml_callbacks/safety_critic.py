"""Updates the global safety critic."""

from tensordict import TensorDict
from torch import Tensor

from cmaml_callbacks._regression import CriticRegression
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.algorithm.record import MetaIteration
from cmaml_pl.critics.estimation import Transitions, cost_to_go
from cmaml_pl.nets.networks import ValueNetwork


class SafetyCritic(CriticRegression):
    """Fits V_C to the cost-to-go; see CriticRegression.

    The critic is global: the tasks share the cost function, so that one network serves all tasks and learns from all.
    """

    name = "safety_critic"

    def critic(self, module: CMAML) -> ValueNetwork:
        """V_C."""
        return module.safety_critic

    def states(self, module: CMAML, rollout: TensorDict) -> Transitions:
        """With the time that is left in the episode, at which the cost ends."""
        return module.estimator.cost_transitions(rollout)

    def target(self, module: CMAML, rollout: TensorDict, states: Transitions) -> Tensor:
        """The cost-to-go; see CriticRegression."""
        return cost_to_go(states, rollout["next", "cost"], gamma=module.estimator.cost_gamma)

    def tell(self, module: CMAML, record: MetaIteration) -> dict[str, Tensor]:
        """What eta follows: the cost per episode that is predicted for the tasks that were told nothing."""
        return {"episode_cost": module.predicted_episode_cost(record.pre.rollout)}
