"""Penalized Proximal Policy Optimization (Zhang et al. 2022, arXiv 2205.11814)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.errors import UserError
from cmaml_pl.inner.base import InnerMethod, InnerStep, clipped_surrogate, ratio_of
from cmaml_pl.inner.first_order import AdamRegion
from cmaml_pl.inner.linearised import cost_excess
from cmaml_pl.math.multiplier import scale_penalty
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True, kw_only=True)
class P3O(InnerMethod):
    """Adam on the clipped surrogate of the reward minus kappa times what the cost is predicted to exceed its limit by.

    The penalty is exact: with kappa above the limit's dual variable, its maximum is the constrained one (theorem 1).
    kappa rises after a rollout that exceeds the limit, and falls after one that does not.

    kappa is the multiplier: it is carried from step to step and, as lambda of TRPO-Lagrangian is, from task to task.
    The penalty has a slope only beyond the limit, where the gradient of the objective is that of A_r - kappa A_C. So
    the weight of the cost in the outer loss is kappa for a policy over its limit, and 0 for one within.

    Attributes:
        kappa: its value at the beginning of meta-training (code of C-MAML's author).
        kappa_factor: what kappa is multiplied or divided by (the same code, which only multiplies by it).
        kappa_min: smallest kappa (the same).
        kappa_max: largest kappa (the same).
        multiplier_carry: share of the tasks' mean change of kappa that is added to the start of kappa for the next
            tasks (as TRPOLag); 0 starts every task with the same kappa.
        margin: share of the limit that the cost is held to (the same code, which lets kappa rise beyond it).
        clip: eps, the distance of the ratio from 1 beyond which nothing is gained (the paper, OmniSafe).
        trust_region: where a step may end.
    """

    method: str = "p3o"
    kappa: float = bounded(1.0, above=0)
    kappa_factor: float = bounded(1.5, low=1)
    kappa_min: float = bounded(0.1, above=0)
    kappa_max: float = bounded(1000.0, above=0)
    multiplier_carry: float = bounded(0.1, low=0, high=1)
    margin: float = bounded(0.85, above=0, high=1)
    clip: float = bounded(0.2, above=0)
    trust_region: AdamRegion = field(default_factory=AdamRegion)

    def __post_init__(self) -> None:
        """Check that kappa lies within its range."""
        if not self.kappa_min <= self.kappa <= self.kappa_max:
            raise UserError(
                f"inner.kappa is {self.kappa}, but must lie between inner.kappa_min ({self.kappa_min}) and "
                f"inner.kappa_max ({self.kappa_max})."
            )

    @property
    def multiplier_init(self) -> float:
        """The first kappa."""
        return self.kappa

    def step(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> InnerStep:
        """See InnerMethod.step."""
        kappa, _ = self.judge(actor, theta, multiplier, data)
        excess = cost_excess(data, margin=self.margin)

        def objective(loc: Tensor, scale: Tensor) -> Tensor:
            return penalised_surrogate(ratio_of(loc, scale, data), data, kappa, excess, clip=self.clip)

        return self.trust_region.step(actor, theta, kappa, data, objective)

    def judge(self, actor: Actor, theta: Tensor, multiplier: Tensor, data: TaskData) -> tuple[Tensor, Tensor]:
        """The next kappa, and kappa where the penalty acts; see InnerMethod.judge."""
        over = data.episode_cost > self.margin * data.cost_limit
        kappa = scale_penalty(multiplier, over, factor=self.kappa_factor, low=self.kappa_min, high=self.kappa_max)
        return kappa, torch.where(over, kappa, 0.0)


def penalised_surrogate(ratio: Tensor, data: TaskData, kappa: Tensor, excess: Tensor, *, clip: float) -> Tensor:
    """L_r - kappa max(0, L_C + excess), (tasks,), the negative of the paper's loss.

    L_r = E[min(ratio A_r, clip(ratio) A_r)] and L_C = E[max(ratio A_C, clip(ratio) A_C)]: of both, the worse estimate.

    Args:
        ratio: of the new policy to the old one, (tasks, samples).
        data: rollouts of the old policy.
        kappa: weight of the penalty, (tasks,).
        excess: by how much the old policy exceeds the limit, in the unit of L_C, see `cost_excess`, (tasks,).
        clip: eps.
    """
    cost = -clipped_surrogate(ratio, -data.cost_signal, clip)
    return clipped_surrogate(ratio, data.reward_signal, clip) - kappa * (cost + excess).clamp_min(0.0)
