"""Advantages, episode sums and units of return and cost.

Shapes are (tasks, envs, time, 1) unless a line says otherwise: the layout in which TorchRL's collectors deliver.
"""

import torch
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate


def gae(
    signal: Tensor, value: Tensor, next_value: Tensor, done: Tensor, terminated: Tensor, *, gamma: float, lmbda: float
) -> Tensor:
    """Generalised advantage estimate of a reward or a cost (Schulman et al. 2016, eq. 16).

    delta_t = signal_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t),
    A_t = delta_t + gamma lmbda (1 - done_t) A_{t+1}.

    An episode that is cut by its time limit is `done` but not `terminated`: it bootstraps from its last state, and
    nothing of the next episode reaches it.

    Args:
        signal: reward or cost of a step, (tasks, envs, time, 1).
        value: V(s_t), same shape.
        next_value: V(s_{t+1}) of the state that the step reached, before any reset, same shape.
        done: whether the episode ended with the step, bool, same shape.
        terminated: whether it ended for good rather than by the time limit, bool, same shape.
        gamma: discount in [0, 1].
        lmbda: weight of long estimates in [0, 1].

    Returns:
        The advantage, same shape.
    """
    advantage: Tensor
    advantage, _ = generalized_advantage_estimate(gamma, lmbda, value, next_value, signal, done, terminated)
    return advantage


def spread(advantage: Tensor) -> Tensor:
    """Standard deviation over the samples of each task, (tasks, samples) -> (tasks, 1); 0 for an all-equal row."""
    deviation = (advantage - advantage.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True).sqrt()
    # float32 rounding leaves a tiny deviation where there is none; dividing by it would turn rounding into a signal
    scale = advantage.abs().amax(dim=1, keepdim=True)
    flat = deviation <= 1e-6 * scale  # false where a sample is NaN, so that NaN stays visible
    return torch.where(flat, torch.zeros_like(deviation), deviation)


def standardise(advantage: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the samples of each task; an all-equal row becomes zeros. Shape (tasks, samples)."""
    centred, deviation = advantage - advantage.mean(dim=1, keepdim=True), spread(advantage)
    return torch.where(deviation == 0, torch.zeros_like(centred), centred / deviation)


def complete_episodes(done: Tensor) -> Tensor:
    """Mask of the steps that belong to an episode which ended within the batch; shape as `done`."""
    return done.flip(-2).cummax(dim=-2).values.flip(-2)


def mean_episode_sum(signal: Tensor, done: Tensor) -> Tensor:
    """Mean undiscounted sum per complete episode, (tasks, envs, time, 1) -> (tasks,), the unit of cost limits.

    Steps of an episode that had not ended when the batch did are left out, so they cannot leak into another one.
    """
    total = (signal * complete_episodes(done)).sum(dim=(1, 2, 3))
    return total / done.sum(dim=(1, 2, 3)).clamp_min(1)


def episode_sums(signal: Tensor, done: Tensor) -> Tensor:
    """Undiscounted sum of each complete episode, at the step that ends it; NaN at all other steps. Shape as `done`.

    An episode's sum is what the running sum has gained since the end of the one before.
    """
    running = signal.double().cumsum(dim=-2)
    steps = torch.arange(done.shape[-2])[:, None]
    last_end = torch.where(done, steps, -1).cummax(dim=-2).values.roll(1, dims=-2)  # before each step
    last_end[..., 0, :] = -1
    before = torch.where(last_end < 0, 0.0, running.gather(-2, last_end.clamp_min(0)))
    return torch.where(done, running - before, torch.nan)


def episode_cost_from_values(value: Tensor, done: Tensor, *, gamma: float) -> Tensor:
    """Mean undiscounted cost per complete episode, from discounted values along it, (tasks, envs, time, 1) -> (tasks,).

    With V(s_t) the discounted sum of the costs left in the episode, c_t = V(s_t) - gamma V(s_{t+1}), and their sum is

        sum_t c_t = gamma V(s_0) + (1 - gamma) sum_t V(s_t)

    V(s_0) alone hardly knows of costs that come later than 1 / (1 - gamma) steps.
    """
    first = done.roll(1, dims=-2)
    first[..., 0, :] = True
    return mean_episode_sum(value * (1.0 - gamma + gamma * first), done)
