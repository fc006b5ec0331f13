"""The updates of the reward critic that the tasks share."""

from tensordict import TensorDict
from torch import Tensor

from cmaml_callbacks._regression import CriticRegression
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.critics.estimation import Transitions, reward_to_go
from cmaml_pl.nets.networks import ValueNetwork


class RewardCritic(CriticRegression):
    """Regress V_r on the reward-to-go; see CriticRegression.

    Tasks differ in their reward, so that V_r can only be what they have in common; each task corrects it on its own
    rollouts. Without this callback and the network, that correction is all there is.
    """

    name = "reward_critic"

    def critic(self, module: CMAML) -> ValueNetwork:
        """V_r."""
        if not isinstance(module.reward_critic, ValueNetwork):
            raise TypeError("RewardCritic serves a module whose tasks share a reward critic, a ValueNetwork")
        return module.reward_critic

    def target(self, module: CMAML, rollout: TensorDict, states: Transitions) -> Tensor:
        """Reward-to-go."""
        return reward_to_go(self.critic(module), states, rollout["next", "reward"], gamma=module.estimator.gamma)
