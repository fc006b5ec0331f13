"""Updates the reward critic that the tasks share."""

from tensordict import TensorDict
from torch import Tensor

from cmaml_callbacks._regression import CriticRegression
from cmaml_pl.algorithm.module import CMAML
from cmaml_pl.critics.estimation import Transitions, reward_to_go
from cmaml_pl.nets.networks import ValueNetwork


class RewardCritic(CriticRegression):
    """Fits V_r to the reward-to-go; see CriticRegression.

    Tasks differ in their reward, so that V_r can only learn what they have in common. Each task corrects V_r on its own
    rollouts. Without this callback and its network, a task's critic consists of this correction only.
    """

    name = "reward_critic"

    def critic(self, module: CMAML) -> ValueNetwork:
        """V_r."""
        if not isinstance(module.reward_critic, ValueNetwork):
            raise TypeError("RewardCritic serves a module whose tasks share a reward critic, a ValueNetwork")
        return module.reward_critic

    def states(self, module: CMAML, rollout: TensorDict) -> Transitions:
        """Without the time, beyond which the reward goes on; with what V_r is told of informed tasks."""
        return module.estimator.reward_transitions(rollout)

    def target(self, module: CMAML, rollout: TensorDict, states: Transitions) -> Tensor:
        """The reward-to-go; see CriticRegression."""
        return reward_to_go(self.critic(module), states, rollout["next", "reward"], gamma=module.estimator.gamma)
