"""How a critic is fitted to its targets, and how well it does."""

import torch
from torch import Tensor, nn

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.nets.networks import ValueNetwork


def fit_critic(
    critic: ValueNetwork,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    target: Tensor,
    *,
    passes: int,
    minibatch: int,
    generator: torch.Generator,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Minimise the squared error in shuffled minibatches.

    Ranks shuffle the samples of all of them alike; each has its own samples' part in every step.

    Args:
        critic: changed in place.
        optimizer: of the critic's parameters.
        features: normalised observations, (..., D).
        target: (..., 1).
        passes: over all samples.
        minibatch: samples in a step.
        generator: of the shuffling, in the same state on all ranks.
        ranks: those that hold samples.

    Returns:
        Mean squared error over the last pass, scalar.
    """
    x, y = features.flatten(0, -2), target.flatten(0, -2)
    first, total = ranks.place(len(x))
    parameters = list(critic.parameters())
    losses: list[Tensor] = []
    for _ in range(passes):
        losses = []
        for chosen in torch.randperm(total, generator=generator).split(minibatch):
            rows = chosen[(chosen >= first) & (chosen < first + len(x))] - first
            with torch.enable_grad():
                loss = nn.functional.mse_loss(critic(x[rows]), y[rows], reduction="sum") / len(chosen)
                gradients = torch.autograd.grad(loss, parameters)
            ranks.sum_([loss, *gradients])
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses).mean()


@torch.no_grad()
def explained_variance(critic: ValueNetwork, features: Tensor, target: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """1 - Var(target - V) / Var(target) over the samples of all ranks, scalar; 0 where the target is constant."""
    pair = torch.cat([target, target - critic(features)], dim=-1)  # (..., 2)
    _, _, (variance, error) = ranks.moments(pair.flatten(0, -2))
    return torch.where(variance > 1e-12, 1.0 - error / variance.clamp_min(1e-12), torch.zeros_like(variance))
