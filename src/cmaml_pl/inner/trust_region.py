"""The trust region of an adaptation step: how far a step may go, and how its length is found."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.inner.base import likelihood_ratio, mean_kl
from cmaml_pl.math.natural_gradient import TaskFunction, fisher_product, line_search, natural_step, rowwise_gradient
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData


@dataclass(frozen=True)
class TrustRegion:
    """The policies with E KL(old || new) <= max_kl, where old is the policy that collected the data.

    The source is Schulman et al. 2015. In the configuration it is the section `inner.trust_region`.

    Attributes:
        max_kl: largest mean divergence of a step, nats (OmniSafe: 0.01; more here, because a task has few steps).
        cg_iterations: number of products with the Fisher matrix for each gradient (OmniSafe: 15).
        cg_damping: number added to the diagonal of the Fisher matrix (OmniSafe).
        fisher_every: the Fisher matrix is averaged over every `fisher_every`-th state (Schulman et al. 2015, appendix
            C.1, use a tenth of the states). The line search checks the divergence on all states.
        line_search_ratio: length of each try relative to the one before (OmniSafe).
        line_search_tries: number of lengths tried (OmniSafe).
    """

    max_kl: float = bounded(0.03, above=0)
    cg_iterations: int = bounded(10, low=1)
    cg_damping: float = bounded(0.1, low=0)
    fisher_every: int = bounded(4, low=1)
    line_search_ratio: float = bounded(0.8, above=0, high=1)
    line_search_tries: int = bounded(15, low=1)

    def fisher(self, actor: GaussianActor, theta: Tensor, data: TaskData) -> TaskFunction:
        """The product with the damped Fisher matrix at `theta`, v -> (H + damping I) v, (tasks, P) -> (tasks, P)."""
        return fisher_product(
            lambda x: mean_kl(actor, x, data, every=self.fisher_every), theta, damping=self.cg_damping
        )

    def step(
        self, actor: GaussianActor, theta: Tensor, data: TaskData, advantage: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Argmax E[ratio * advantage] within the region (Schulman et al. 2015, appendix C).

        Args:
            actor: the network that runs the parameters.
            theta: where the step starts, (tasks, P).
            data: rollouts of `theta`.
            advantage: (tasks, samples).

        Returns:
            The same as `search`.
        """
        before, gradient = rowwise_gradient(lambda x: surrogate(actor, x, data, advantage), theta)
        product = self.fisher(actor, theta, data)
        step = natural_step(product, gradient, max_kl=self.max_kl, iterations=self.cg_iterations)
        # a comparison with NaN is false, so a step to parameters that are not finite is refused like any bad step
        return self.search(actor, theta, data, step, lambda x: surrogate(actor, x, data, advantage) > before)

    @torch.no_grad()
    def search(
        self, actor: GaussianActor, theta: Tensor, data: TaskData, step: Tensor, accept: TaskFunction
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Shorten `step` until it ends within the region and `accept` holds at its end.

        Args:
            actor: the network that runs the parameters.
            theta: where the step starts, (tasks, P).
            data: rollouts of `theta`.
            step: (tasks, P).
            accept: candidate parameters (tasks, P) -> bool (tasks,).

        Returns:
            Adapted parameters, (tasks, P); their mean KL(old || new), nats, (tasks,); and the accepted share of the
            step, (tasks,), which is 0 for tasks in which no length was accepted.
        """
        adapted, share = line_search(
            lambda x: accept(x) & (mean_kl(actor, x, data) <= self.max_kl),
            theta.detach(),
            step,
            ratio=self.line_search_ratio,
            tries=self.line_search_tries,
        )
        return adapted, mean_kl(actor, adapted, data), share


def surrogate(actor: GaussianActor, theta: Tensor, data: TaskData, advantage: Tensor) -> Tensor:
    """E[pi_theta(a|s) / pi_old(a|s) * advantage], (tasks,), for an advantage (tasks, samples)."""
    return (likelihood_ratio(actor, theta, data) * advantage).mean(dim=1)
