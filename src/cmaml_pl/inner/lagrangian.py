"""Inner methods whose multiplier of the cost follows J_C - d: TRPO-Lagrangian, PPO-Lagrangian and FOCOPS."""

from dataclasses import dataclass

from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import InnerMethod
from cmaml_pl.math.multiplier import ascend
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class LagrangianMethod(InnerMethod):
    """An inner method with lambda <- clip(lambda + lr (J_C - d), 0, max), which is carried from step to step.

    With kp > 0 the step weighs the cost by lambda + kp (J_C - d) instead of lambda: a proportional term in addition to
    the integral term lambda (Stooke, Achiam & Abbeel 2020, "Responsive safety in reinforcement learning by PID
    Lagrangian methods", algorithm 2 with K_D = 0).

    Attributes:
        multiplier_init: lambda at the beginning of meta-training (OmniSafe).
        multiplier_lr: a_lambda, per unit of episode cost: an excess of 10 adds 0.3 (tuned on nav2d and point_goal).
        multiplier_kp: K_P, per unit of episode cost. A task has few adaptation steps, too few for lambda to rise; the
            proportional term reacts at once and disappears with the excess. 0 is the method as printed.
        multiplier_carry: share of the tasks' mean change of lambda that is added to the start of lambda for the next
            tasks. Below 1 lambda reacts at once within a task and slowly from task to task. At 1 cost and return
            oscillated on nav2d.
        multiplier_max: largest lambda; without it a task that cannot meet its limit would silence the reward for all.
        margin: share of the limit that lambda holds the cost to; below 1 it leaves room for differences between tasks.
    """

    multiplier_init: float = bounded(0.001, low=0)
    multiplier_lr: float = bounded(0.03, low=0)
    multiplier_kp: float = bounded(0.0, low=0)
    multiplier_carry: float = bounded(0.1, low=0, high=1)
    multiplier_max: float = bounded(10.0, low=0)
    margin: float = bounded(1.0, above=0, high=1)

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """One ascent of lambda, and lambda with the proportional term; see InnerMethod.judge."""
        cost, limit, high = data.episode_cost, self.margin * data.cost_limit, self.multiplier_max
        multiplier = ascend(multiplier, cost, limit, lr=self.multiplier_lr, high=high)
        return multiplier, ascend(multiplier, cost, limit, lr=self.multiplier_kp, high=high)
