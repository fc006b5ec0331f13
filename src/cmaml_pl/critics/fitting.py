"""Fits a critic to its targets, and measures how well it predicts them."""

import torch
from torch import Tensor, nn

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.nets.networks import ValueNetwork


def gather_samples(
    features: Tensor, target: Tensor, *, most: int, generator: torch.Generator, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """The samples of all ranks (processes), the same on all of them, in few messages.

    Every rank then fits the same critic to the same samples. That repeats the work, but one message for each gradient
    step would take longer: with many machines most of the time goes by in waiting for messages.

    Args:
        features: normalised observations, (..., D).
        target: values that the critic should predict, (..., 1).
        most: largest number of samples; of more, this many are drawn at random.
        generator: random numbers of the choice, in the same state on all ranks.
        ranks: the processes that hold samples.

    Returns:
        Features (samples, D) and targets (samples, 1).
    """
    x, y = features.flatten(0, -2), target.flatten(0, -2)
    first, total = ranks.place(len(x))
    if total > most:
        chosen = torch.randperm(total, generator=generator)[:most].sort().values.to(x.device)
        rows = chosen[(chosen >= first) & (chosen < first + len(x))] - first
        x, y = x[rows], y[rows]
    if ranks.size == 1:
        return x, y
    both = ranks.gather(torch.cat([x, y], dim=1))
    return both[:, :-1].contiguous(), both[:, -1:].contiguous()


def fit_critic(
    critic: ValueNetwork,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    target: Tensor,
    *,
    passes: int,
    minibatch: int,
    generator: torch.Generator,
) -> Tensor:
    """Minimise the squared error in shuffled minibatches.

    Args:
        critic: the critic to fit; changed in place.
        optimizer: the optimiser of the critic's parameters.
        features: normalised observations, (..., D).
        target: values that the critic should predict, (..., 1).
        passes: number of passes over all samples.
        minibatch: number of samples in a step.
        generator: random numbers of the shuffling.

    Returns:
        Mean squared error over the last pass, scalar.
    """
    x, y = features.flatten(0, -2), target.flatten(0, -2)
    parameters = list(critic.parameters())
    losses: list[Tensor] = []
    for _ in range(passes):
        losses = []
        for rows in torch.randperm(len(x), generator=generator).to(x.device).split(minibatch):
            with torch.enable_grad():
                loss = nn.functional.mse_loss(critic(x[rows]), y[rows], reduction="sum") / len(rows)
                gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses).mean()


@torch.no_grad()
def explained_variance(critic: ValueNetwork, features: Tensor, target: Tensor) -> Tensor:
    """1 - Var(target - V) / Var(target) over samples (..., D) and (..., 1), scalar; 0 if the target is constant."""
    pair = torch.cat([target, target - critic(features)], dim=-1)  # (..., 2)
    _, _, (variance, error) = ALONE.moments(pair.flatten(0, -2))
    return torch.where(variance > 1e-12, 1.0 - error / variance.clamp_min(1e-12), torch.zeros_like(variance))
