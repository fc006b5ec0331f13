"""Shared by CPO and PCPO: the linearised problem of a step with a cost limit, and the line search after the step.

P3O and SafeMeta have the unit of the limit from here, and Meta-CPO the problem and its solution.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.inner.base import likelihood_ratio
from cmaml_pl.inner.trust_region import TrustRegion
from cmaml_pl.math.cpo_dual import Case
from cmaml_pl.math.natural_gradient import TaskFunction, conjugate_gradient
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData


def cost_excess(data: TaskData, *, margin: float = 1.0) -> Tensor:
    """c, (tasks,): by how much J_C exceeds d, in the unit of the standardised cost surrogate; -inf without a limit.

    With a `margin` below 1 that share of the limit stands for d.

    The limit d is on the cost of an episode, but the surrogate is a mean over steps. With T the mean number of steps of
    an episode and undiscounted advantages (Kakade & Langford 2002, lemma 6.1, for a finite horizon),

        J_C(new) - J_C(old) = E_new[sum_{t < T} A_C(s_t, a_t)] ~= T E_old[ratio * A_C],

    where ~= evaluates the new policy on the old policy's states, which is exact to first order. E_old is the mean over
    the steps of the old policy's episodes, and A_C has mean 0 over them. So J_C(new) <= d becomes

        (J_C(old) - d) / T + E_old[ratio * A_C] <= 0.

    Dividing by sigma = `data.cost_scale` gives c = (J_C - d) / (T sigma) plus the surrogate of the scaled advantage.
    Scaling changes c and its gradient b by the same factor, so it does not change the step. Discounted advantages miss
    what an action costs more than 1 / (1 - gamma) steps later; if such costs matter, the change of cost is
    underestimated.

    If the limit is on a cost discounted by beta, T is the mean discounted number of steps, sum_{t < T} beta^t. The mean
    over steps is not discounted, as usual (Achiam et al. 2017, OmniSafe).
    """
    sigma = data.cost_scale
    # if all advantages are equal (sigma = 0), there is no gradient and only the sign of c matters
    unit = data.episode_steps * sigma.where(sigma > 0, torch.ones_like(sigma))
    return (data.episode_cost - margin * data.cost_limit) / unit


@dataclass(frozen=True)
class LinearisedProblem:
    """The problem of one step x = theta_new - theta: max g'x s.t. c + b'x <= 0 and 1/2 x'Hx <= max_kl.

    g and b are the gradients of the surrogates of the standardised reward and cost advantages. H is the damped Fisher
    matrix.

    Attributes:
        natural_reward: v = H^-1 g, (tasks, P).
        natural_cost: w = H^-1 b, (tasks, P).
        q: g'v, (tasks,).
        r: b'v, (tasks,).
        s: b'w, (tasks,).
        c: see `cost_excess`, (tasks,).
    """

    natural_reward: Tensor
    natural_cost: Tensor
    q: Tensor
    r: Tensor
    s: Tensor
    c: Tensor

    def step(self, along_reward: Tensor, along_cost: Tensor) -> Tensor:
        """The step x = along_reward v + along_cost w, (tasks, P), from two coefficients, (tasks,) each."""
        return along_reward[:, None] * self.natural_reward + along_cost[:, None] * self.natural_cost


def linearise(actor: Actor, theta: Tensor, data: TaskData, region: TrustRegion) -> LinearisedProblem:
    """The linearised problem of a step from `theta`, (tasks, P), within `region`; `theta` has collected `data`."""
    _, g = region.gradient(actor, theta, data, data.reward_signal)
    _, b = region.gradient(actor, theta, data, data.cost_signal)
    return solve_products(region.fisher(actor, theta, data), g, b, cost_excess(data), iterations=region.cg_iterations)


def solve_products(product: TaskFunction, g: Tensor, b: Tensor, c: Tensor, *, iterations: int) -> LinearisedProblem:
    """The problem with the gradients g and b, (tasks, P), the excess c, (tasks,), and H as its product x -> H x."""
    v, w = (conjugate_gradient(product, gradient, iterations=iterations) for gradient in (g, b))
    # an iterate v of conjugate gradients is not exact, but v'Hv = g'v holds; r is b'v, not g'w, because the step along
    # v changes the cost by b'v
    return LinearisedProblem(v, w, q=(g * v).sum(dim=1), r=(b * v).sum(dim=1), s=(b * w).sum(dim=1), c=c)


def reach_where_free(
    actor: Actor, theta: Tensor, data: TaskData, step: Tensor, region: TrustRegion, case: Tensor
) -> Tensor:
    """`TrustRegion.reach` for the steps that the cost limit does not bound; `step` is (tasks, P), `case` is (tasks,).

    The other steps end at the limit, and a longer step would exceed it.
    """
    free = (case == Case.FLAT) | (case == Case.FREE) | (case == Case.RECOVERY)
    return torch.where(free[:, None], region.reach(actor, theta, data, step), step)


@torch.no_grad()
def safe_line_search(
    actor: Actor,
    theta: Tensor,
    data: TaskData,
    step: Tensor,
    region: TrustRegion,
    *,
    c: Tensor,
    keep_reward: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shorten `step` until its end meets the conditions on reward, cost and divergence (Ray et al. 2019, their code).

    A length is accepted if the step ends within `region`, the surrogate of the *cost* rises by at most max(-c, 0), and
    the surrogate of the reward does not fall. The last condition holds only for tasks with `keep_reward`: a step that
    leads back to the limit may cost reward.

    Args:
        actor: the network that runs the parameters.
        theta: where the step starts, (tasks, P).
        data: rollouts of `theta`.
        step: (tasks, P).
        region: where the step may end.
        c: see `cost_excess`, (tasks,).
        keep_reward: whether the reward's surrogate must not fall, bool, (tasks,).

    Returns:
        The same as `TrustRegion.search`.
    """
    reward_signal, cost_signal = data.reward_signal, data.cost_signal

    def surrogates(ratio: Tensor) -> tuple[Tensor, Tensor]:
        return (ratio * reward_signal).mean(dim=1), (ratio * cost_signal).mean(dim=1)

    reward, cost = surrogates(likelihood_ratio(actor, theta.detach(), data))
    # the comparison with minus infinity is kept because it refuses NaN; without a comparison NaN would pass
    least_reward = torch.where(keep_reward, reward, -torch.inf)
    most_cost = cost + (-c).clamp_min(0.0)

    def accept(ratio: Tensor, _: Tensor) -> Tensor:
        new_reward, new_cost = surrogates(ratio)
        return (new_reward >= least_reward) & (new_cost <= most_cost)

    return region.search(actor, theta, data, step, accept)
