"""What trust-region methods share: the step on one advantage, and the linearised problem with a cost limit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.inner.base import likelihood_ratio, mean_kl
from cmaml_pl.math.advantages import spread, standardise
from cmaml_pl.math.trust_region import (
    TaskFunction,
    conjugate_gradient,
    fisher_product,
    line_search,
    natural_step,
    rowwise_gradient,
)
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


def surrogate(actor: GaussianActor, theta: Tensor, data: TaskData, advantage: Tensor) -> Tensor:
    """E[pi_theta(a|s) / pi_old(a|s) * advantage], (tasks,), for an advantage (tasks, samples)."""
    return (likelihood_ratio(actor, theta, data) * advantage).mean(dim=1)


def _fisher(actor: GaussianActor, theta: Tensor, data: TaskData, *, damping: float, every: int) -> TaskFunction:
    return fisher_product(lambda x: mean_kl(actor, x, data, every=every), theta, damping=damping)


def trust_region_step(
    actor: GaussianActor,
    theta: Tensor,
    data: TaskData,
    advantage: Tensor,
    *,
    max_kl: float,
    cg_iterations: int,
    cg_damping: float,
    fisher_every: int,
    line_search_ratio: float,
    line_search_tries: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Argmax E[ratio * advantage] s.t. E KL(old || new) <= max_kl (Schulman et al. 2015, appendix C).

    Args:
        actor: the network that runs the parameters.
        theta: where the step starts, (tasks, P).
        data: rollouts of `theta`.
        advantage: (tasks, samples).
        max_kl: nats.
        cg_iterations: products with the Fisher matrix.
        cg_damping: added to its diagonal.
        fisher_every: it is averaged over every so many-th state.
        line_search_ratio: each try is so much shorter.
        line_search_tries: lengths tried.

    Returns:
        Adapted parameters (tasks, P), their divergence in nats (tasks,) and the accepted share of the step (tasks,).
    """
    before, gradient = rowwise_gradient(lambda x: surrogate(actor, x, data, advantage), theta)
    product = _fisher(actor, theta, data, damping=cg_damping, every=fisher_every)
    step = natural_step(product, gradient, max_kl=max_kl, iterations=cg_iterations)

    @torch.no_grad()
    def accept(candidate: Tensor) -> Tensor:
        # a comparison with NaN is false: a step that leaves the numbers is refused like any bad one
        better = surrogate(actor, candidate, data, advantage) > before
        return better & (mean_kl(actor, candidate, data) <= max_kl)

    adapted, share = line_search(accept, theta.detach(), step, ratio=line_search_ratio, tries=line_search_tries)
    with torch.no_grad():
        return adapted, mean_kl(actor, adapted, data), share


def cost_excess(data: TaskData) -> Tensor:
    """c: by how much J_C exceeds d, in the unit of the standardised cost surrogate, (tasks,); -inf without a limit.

    The limit is on the undiscounted cost of an episode, the surrogate is a mean over steps. With T the mean number of
    steps of an episode and undiscounted advantages (Kakade & Langford 2002, lemma 6.1, for a finite horizon),

        J_C(new) - J_C(old) = E_new[sum_{t < T} A_C(s_t, a_t)] ~= T E_old[ratio * A_C],

    where ~= takes the old policy's states for the new one's, which is exact to first order, and E_old is the mean over
    the steps of the old policy's episodes, over which A_C averages to 0. So J_C(new) <= d is

        (J_C(old) - d) / T + E_old[ratio * A_C] <= 0,

    and dividing by sigma, the standard deviation of A_C in the task's samples, gives c = (J_C - d) / (T sigma) beside
    the surrogate of the standardised advantage. Standardising rescales c and b alike and leaves the step as it is.
    Discounted advantages leave out what an action costs more than 1 / (1 - gamma) steps later, and the change of cost
    is underestimated where that matters.
    """
    sigma = spread(data.cost_advantage)[:, 0]
    # all-equal advantages have no gradient: only the sign of c is left to mean something
    return (data.episode_cost - data.cost_limit) / (data.episode_steps * sigma.where(sigma > 0, torch.ones_like(sigma)))


@dataclass(frozen=True)
class LinearisedProblem:
    """The problem of one step x: max g'x s.t. c + b'x <= 0, 1/2 x'Hx <= max_kl.

    g and b are the gradients of the surrogates of the standardised reward and cost advantages, H is the damped Fisher
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
        """The step along_reward v + along_cost w, (tasks, P), from two coefficients (tasks,)."""
        return along_reward[:, None] * self.natural_reward + along_cost[:, None] * self.natural_cost


def linearise(
    actor: GaussianActor, theta: Tensor, data: TaskData, *, cg_iterations: int, cg_damping: float, fisher_every: int
) -> LinearisedProblem:
    """The problem around `theta` (tasks, P); the other arguments are those of `trust_region_step`."""
    _, g = rowwise_gradient(lambda x: surrogate(actor, x, data, standardise(data.reward_advantage)), theta)
    _, b = rowwise_gradient(lambda x: surrogate(actor, x, data, standardise(data.cost_advantage)), theta)
    product = _fisher(actor, theta, data, damping=cg_damping, every=fisher_every)
    v, w = (conjugate_gradient(product, gradient, iterations=cg_iterations) for gradient in (g, b))
    # the iterates of conjugate gradients satisfy v'Hv = g'v; b'v, not g'w, is what the step changes the cost by
    q, r, s = (g * v).sum(dim=1), (b * v).sum(dim=1), (b * w).sum(dim=1)
    return LinearisedProblem(v, w, q, r, s, cost_excess(data))


def safe_line_search(
    actor: GaussianActor,
    theta: Tensor,
    data: TaskData,
    step: Tensor,
    *,
    c: Tensor,
    keep_reward: Tensor,
    max_kl: float,
    line_search_ratio: float,
    line_search_tries: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shorten `step` until reward, cost and divergence are as they should be (Ray et al. 2019, in their code).

    A length is accepted if the divergence is at most max_kl, the surrogate of the *cost* changes by at most max(-c, 0)
    and that of the reward, where it is to be kept, does not fall. On the way back to the limit it may.

    Args:
        actor: the network that runs the parameters.
        theta: where the step starts, (tasks, P).
        data: rollouts of `theta`.
        step: (tasks, P).
        c: see `cost_excess`, (tasks,).
        keep_reward: whether the reward's surrogate must not fall, bool, (tasks,).
        max_kl: nats.
        line_search_ratio: each try is so much shorter.
        line_search_tries: lengths tried.

    Returns:
        As `trust_region_step`.
    """
    reward_advantage, cost_advantage = standardise(data.reward_advantage), standardise(data.cost_advantage)
    start = theta.detach()

    @torch.no_grad()
    def surrogates(candidate: Tensor) -> tuple[Tensor, Tensor]:
        ratio = likelihood_ratio(actor, candidate, data)
        return (ratio * reward_advantage).mean(dim=1), (ratio * cost_advantage).mean(dim=1)

    reward, cost = surrogates(start)
    # minus infinity rather than no comparison, which would let NaN pass
    least_reward = torch.where(keep_reward, reward, -torch.inf)
    most_cost = cost + (-c).clamp_min(0.0)

    @torch.no_grad()
    def accept(candidate: Tensor) -> Tensor:
        new_reward, new_cost = surrogates(candidate)
        kept = (new_reward >= least_reward) & (new_cost <= most_cost)
        return kept & (mean_kl(actor, candidate, data) <= max_kl)

    adapted, share = line_search(accept, start, step, ratio=line_search_ratio, tries=line_search_tries)
    with torch.no_grad():
        return adapted, mean_kl(actor, adapted, data), share
