"""Fits a critic to its targets, and measures how well it predicts them."""

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

    A minibatch holds samples of all ranks (processes), and all ranks choose the same one. Each rank computes the part
    of the gradient that its own samples give, and the parts are added.

    Args:
        critic: the critic to fit; changed in place.
        optimizer: the optimiser of the critic's parameters.
        features: normalised observations, (..., D).
        target: values that the critic should predict, (..., 1).
        passes: number of passes over all samples.
        minibatch: number of samples in a step, over all ranks.
        generator: random numbers of the shuffling, in the same state on all ranks.
        ranks: the processes that hold samples.

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
    """1 - Var(target - V) / Var(target) over the samples of all ranks, scalar; 0 if the target is constant."""
    pair = torch.cat([target, target - critic(features)], dim=-1)  # (..., 2)
    _, _, (variance, error) = ranks.moments(pair.flatten(0, -2))
    return torch.where(variance > 1e-12, 1.0 - error / variance.clamp_min(1e-12), torch.zeros_like(variance))
