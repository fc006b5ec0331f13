"""Advantages, and sums and means over episodes.

Shapes are (tasks, envs, time, 1) unless a docstring says otherwise; this is the layout of TorchRL's collectors.
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

    An episode that is cut off by its time limit is `done` but not `terminated`. It bootstraps from the value of its
    last state, and the next episode has no influence on it.

    Args:
        signal: reward or cost of a step, (tasks, envs, time, 1).
        value: V(s_t), same shape.
        next_value: V(s_{t+1}) of the state that the step reached, before any reset, same shape.
        done: whether the episode ended with the step, bool, same shape.
        terminated: whether it ended for good rather than by the time limit, bool, same shape.
        gamma: discount, in [0, 1].
        lmbda: weight of estimates over many steps, in [0, 1].

    Returns:
        The advantage, same shape.
    """
    advantage: Tensor
    advantage, _ = generalized_advantage_estimate(gamma, lmbda, value, next_value, signal, done, terminated)
    return advantage


def spread(advantage: Tensor) -> Tensor:
    """Standard deviation over the samples of each task, (tasks, samples) -> (tasks, 1); 0 if all samples are equal."""
    deviation = (advantage - advantage.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True).sqrt()
    # for equal samples, rounding in float32 gives a tiny deviation instead of 0; dividing by it would amplify the noise
    scale = advantage.abs().amax(dim=1, keepdim=True)
    flat = deviation <= 1e-6 * scale  # false if a sample is NaN, so that the result is NaN as well
    return torch.where(flat, torch.zeros_like(deviation), deviation)


def standardise(advantage: Tensor, scale: Tensor | None = None) -> Tensor:
    """Advantages with mean 0 over the samples of each task, divided by `scale`, (tasks, samples).

    Args:
        advantage: (tasks, samples).
        scale: (tasks,); None uses each task's own standard deviation. A row with scale 0 becomes 0.
    """
    centred = advantage - advantage.mean(dim=1, keepdim=True)
    unit = spread(advantage) if scale is None else scale[:, None]
    return torch.where(unit == 0, torch.zeros_like(centred), centred / unit)


def weigh(reward: Tensor, cost: Tensor, weight: Tensor) -> Tensor:
    """(r - w c) / (1 + w) of standardised rewards and costs, (tasks, samples); the weight w is (tasks,)."""
    weight = weight[:, None]
    return (reward - weight * cost) / (1.0 + weight)


def steps_so_far(done: Tensor) -> Tensor:
    """Number of steps of the episode before each step, int64, in the shape of `done`; a rollout begins with a reset."""
    steps = _steps(done)
    return steps - 1 - _last_end(done, steps)


def _steps(done: Tensor) -> Tensor:
    """The number of each step of the rollout, int64, (time, 1)."""
    return torch.arange(done.shape[-2], device=done.device)[:, None]


def _last_end(done: Tensor, steps: Tensor) -> Tensor:
    """The step at which the last episode before each step ended, in the shape of `done`; -1 if there was none."""
    last_end = torch.where(done, steps, -1).cummax(dim=-2).values.roll(1, dims=-2)
    last_end[..., 0, :] = -1
    return last_end


def mean_episode_sum(signal: Tensor, done: Tensor, *, discount: float = 1.0) -> Tensor:
    """sum_t discount^t signal_t of an episode, mean over episodes, (tasks, envs, time, 1) -> (tasks,).

    For costs this is in the unit of the cost limits. Only the first episode of each world counts: a batch lasts as long
    as the longest episode, so that the first one always ends within it. Of the later ones, the short ones would be
    over-represented: a long one has not ended by the end of the batch.
    """
    counted, ended = _first_episodes(signal, done, discount)
    return counted.sum(dim=(1, 2, 3)) / ended.sum(dim=(1, 2, 3)).clamp_min(1)


def first_episode_sums(signal: Tensor, done: Tensor, *, discount: float = 1.0) -> Tensor:
    """The same sum of each world's first episode, (tasks, envs, time, 1) -> (tasks, envs); NaN if it has not ended."""
    counted, ended = _first_episodes(signal, done, discount)
    return counted.sum(dim=(2, 3)).where(ended[:, :, 0, 0], torch.nan)


def _first_episodes(signal: Tensor, done: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """discount^t signal_t, 0 beyond each world's first episode, and whether that has ended, (tasks, envs, 1, 1)."""
    steps = steps_so_far(done)
    first = steps == _steps(done)
    ended = done.any(dim=-2, keepdim=True)
    return signal * _powers(discount, steps) * (first & ended), ended


def _powers(discount: float, steps: Tensor) -> Tensor | float:
    return 1.0 if discount == 1.0 else discount**steps


def episode_sums(signal: Tensor, done: Tensor, *, discount: float = 1.0) -> Tensor:
    """sum_t discount^t signal_t of each complete episode, at its last step, in the shape of `done`; NaN elsewhere.

    It is the difference of the running sum between the end of this episode and the end of the one before.
    """
    running = (signal.double() * _powers(discount, steps_so_far(done))).cumsum(dim=-2)
    last_end = _last_end(done, _steps(done))
    before = torch.where(last_end < 0, 0.0, running.gather(-2, last_end.clamp_min(0)))
    return torch.where(done, running - before, torch.nan)


def episode_cost_from_values(value: Tensor, done: Tensor, *, gamma: float, discount: float = 1.0) -> Tensor:
    """Mean cost per episode, sum_t beta^t c_t, from values V(s_t), (tasks, envs, time, 1) -> (tasks,).

    V(s_t) is the sum of the costs left in the episode, discounted by gamma. Then c_t = V(s_t) - gamma V(s_{t+1}), and

        sum_t beta^t c_t = gamma/beta V(s_0) + (1 - gamma/beta) sum_t beta^t V(s_t),  where beta is `discount`.

    With beta = gamma this is V(s_0). Without a discount V(s_0) would not do: it hardly depends on costs that come later
    than 1 / (1 - gamma) steps.
    """
    first, ratio = steps_so_far(done) == 0, gamma / discount
    return mean_episode_sum(value * (1.0 - ratio + ratio * first), done, discount=discount)
