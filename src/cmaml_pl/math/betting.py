"""Confidence bounds on the mean of costs by betting: for any distribution, and at every number of episodes at once.

A gambler with a capital of 1 bets on every episode against a hypothesis on the mean. If the hypothesis is true, no
stakes make the capital grow on average, so that it ever reaches 1 / delta with a probability of at most delta (Ville
1939). The hypotheses against which it has not are the confidence interval (Waudby-Smith & Ramdas 2024, "Estimating
means of bounded random variables by betting", JRSS-B 86(1)). The bounds may be looked at after each episode.
"""

import torch
from torch import Tensor

STAKES = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of the capital that are bet; all are played side by side (a coarse universal portfolio, Cover 1991)."""

WEIGHTS = (0.5, 0.125, 0.125, 0.125, 0.125)
"""The capital's first shares of the stakes; half bets all, which is best where all costs are alike."""

BISECTIONS = 20
"""The bound is exact to 1e-6 of the largest cost."""


def log_capital(odds: Tensor, counted: Tensor) -> Tensor:
    """The logarithm of the capital after all episodes, (tasks, episodes) -> (tasks,).

    K = sum_c w_c prod_i (1 - c + c o_i), where E[o_i] <= 1 under the hypothesis.

    Args:
        odds: o_i, by what an episode multiplies what was bet on it, at least 0, (tasks, episodes).
        counted: which episodes were bet on, bool, same shape.
    """
    stakes = odds.new_tensor(STAKES)
    gains = (1.0 - stakes + stakes * odds[..., None]).log()  # (tasks, episodes, stakes)
    return (gains.where(counted[..., None], 0.0).sum(dim=1) + odds.new_tensor(WEIGHTS).log()).logsumexp(dim=-1)


def upper_bound(cost: Tensor, counted: Tensor, *, largest: Tensor, delta: Tensor) -> Tensor:
    """A bound that the mean cost exceeds with a probability of at most delta, at any number of episodes, (tasks,).

    Against "the mean is at least m" the odds are (largest - cost_i) / (largest - m): the bound is the m at which the
    capital is 1 / delta. Without an episode it is `largest`.

    Args:
        cost: of every episode, (tasks, episodes), at most `largest`.
        counted: which episodes count, bool, same shape.
        largest: largest possible cost of an episode, > 0, (tasks,).
        delta: (tasks,).
    """
    left = 1.0 - (cost / largest[:, None]).double().clamp(0.0, 1.0)
    low, high = torch.zeros_like(largest, dtype=torch.float64), torch.ones_like(largest, dtype=torch.float64)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2  # m / largest
        refuted = log_capital(left / (1.0 - middle)[:, None], counted) >= -delta.double().log()
        low, high = low.where(refuted, middle), middle.where(refuted, high)
    return (high * largest).to(cost)


def exceeds(cost: Tensor, counted: Tensor, *, limit: Tensor, delta: Tensor) -> Tensor:
    """Whether the mean cost is over the limit, bool, (tasks,); falsely so with a probability of at most delta.

    Against "the mean is at most the limit" the odds are cost_i / limit; no largest cost is needed.

    Args:
        cost: of every episode, at least 0, (tasks, episodes).
        counted: which episodes count, bool, same shape.
        limit: > 0, (tasks,).
        delta: (tasks,).
    """
    capital = log_capital((cost / limit[:, None]).double(), counted)
    return capital.nan_to_num(torch.inf) >= -delta.double().log()  # infinite times 0: an episode that cost without end
