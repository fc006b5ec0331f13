"""Plays the adapted policy in as many episodes as its cost so far allows, in the others one that is within the limit.

After Safe-PCE (Ni & Kamgarpour 2026, "Constrained Meta Reinforcement Learning with Provable Test-Time Safety", arXiv
2601.21845, ICML), whose test stage plays each episode by a candidate with probability alpha, else by a policy that is
feasible for all tasks; docs/methods.md lists the differences.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from cmaml_pl.bounds import bounded
from cmaml_pl.deployment.base import Deployed, Deployment
from cmaml_pl.errors import UserError
from cmaml_pl.math.advantages import first_episode_sums
from cmaml_pl.math.betting import exceeds, upper_bound

FOR_FALLBACKS = 0.1
"""Share of delta that is left for taking a fallback for over its limit that is not; chosen, not tuned."""


@dataclass(frozen=True)
class Evidence:
    """What the episodes of some tasks have cost so far, and who has played them.

    The policies of a task have numbers: 0 is the policy before adaptation, and the candidate has the largest.

    Attributes:
        cost: of every episode, in the unit of the limit, (tasks, episodes).
        player: number of the policy that has played it, (tasks, episodes).
        candidate: number of the policy that adaptation has led to, (tasks,).
        fallback: number of the policy that plays the other episodes, (tasks,).
        limit: d^p, (tasks,).
    """

    cost: Tensor
    player: Tensor
    candidate: Tensor
    fallback: Tensor
    limit: Tensor

    def add(self, cost: Tensor, worlds: Tensor) -> "Evidence":
        """With one more episode of each world, cost (tasks, envs), by the candidate in `worlds`, bool, same shape."""
        player = self.candidate[:, None].where(worlds, self.fallback[:, None])
        return replace(self, cost=torch.cat([self.cost, cost], dim=1), player=torch.cat([self.player, player], dim=1))


@dataclass(frozen=True, kw_only=True)
class Mixture(Deployment):
    """Each episode is played by the adapted policy, the candidate, with probability alpha, else by the fallback.

    The fallback is the meta-policy at first. A candidate that plays alone becomes the fallback, and adaptation moves it
    on. A candidate that is found to be over the limit is replaced by the policy half-way back to the fallback.

    Attributes:
        delta: probability with which a task's deployed episodes may cost more than the limit on average, at any step.
        worst_cost: the costliest episode that is reckoned with, in multiples of the limit; more if the fallback has had
            a costlier one. It decides how often a candidate of which nothing is known is tried, and how many episodes
            it takes to trust it. A candidate that has a costlier episode is dropped.
    """

    method: str = "mixture"
    delta: float = bounded(0.1, above=0, high=0.5)  # chosen, not tuned
    worst_cost: float = bounded(5.0, above=1)  # chosen, not tuned

    needs_limit: ClassVar[bool] = True

    def start(self, theta: Tensor, cost_limit: Tensor) -> Deployed:
        """The policies before adaptation, which are candidate and fallback at once.

        Raises:
            UserError: a task's limit is 0 or infinite.
        """
        unfit = cost_limit[~((cost_limit > 0) & cost_limit.isfinite())]
        if len(unfit):
            raise UserError(
                f"deployment.method is {self.method}, which needs a finite limit above 0 for every task, but one of "
                f"them has {unfit[0]:g}: set other limits, or deployment.method=adapted."
            )
        none, all_ = cost_limit.new_zeros(len(theta), 0), cost_limit.new_ones(len(theta))
        first = torch.zeros_like(all_, dtype=torch.int64)
        return Deployed(theta, theta, all_, Evidence(none, none.long(), first, first, cost_limit))

    def go_on(
        self, now: Deployed, theta: Tensor, rollout: TensorDictBase, worlds: Tensor, *, discount: float
    ) -> Deployed:
        """See Deployment."""
        after = rollout["next"]
        cost = first_episode_sums(after["cost"], after["done"], discount=discount).nan_to_num(torch.inf)
        seen: Evidence = now.evidence.add(cost, worlds)
        assert now.fallback is not None
        moved = now.alone & (theta != now.theta).any(dim=1)  # no other: its step was rejected, and it goes on
        over = ~now.alone & (self.is_over(seen, seen.candidate) | self.surprises(seen))
        fallback = now.theta.where(moved[:, None], now.fallback)
        half_way = (now.theta + fallback) / 2
        seen = replace(
            seen,
            candidate=seen.candidate + (moved | over),
            fallback=seen.candidate.where(moved, seen.fallback),
        )
        return Deployed(
            theta.where(moved[:, None], half_way.where(over[:, None], now.theta)), fallback, self.share(seen), seen
        )

    def share(self, seen: Evidence) -> Tensor:
        """Alpha of the next rollout, (tasks,)."""
        upper, fallback = (self.upper(seen, number) for number in (seen.candidate, seen.fallback))
        alpha = largest_share(upper, fallback, seen.limit)
        # with nothing to fall back on the adapted policy is as good as any: adaptation lowers a cost over the limit
        needed = self.is_over(seen, seen.fallback, part=FOR_FALLBACKS) | (seen.candidate == seen.fallback)
        return alpha.where(~needed, 1.0)

    def upper(self, seen: Evidence, number: Tensor) -> Tensor:
        """The upper bound on the mean cost of the policies of some numbers, (tasks,)."""
        known = {"largest": self.largest(seen), "delta": self.level(number) * (1.0 - FOR_FALLBACKS)}
        return upper_bound(seen.cost, seen.player == number[:, None], **known)

    def largest(self, seen: Evidence) -> Tensor:
        """The costliest episode that is reckoned with, (tasks,)."""
        own = (seen.player == seen.fallback[:, None]) & seen.cost.isfinite()
        fallback = seen.cost.where(own, 0.0).amax(dim=1)
        return torch.maximum(fallback, self.worst_cost * seen.limit)

    def surprises(self, seen: Evidence) -> Tensor:
        """Whether an episode of the candidate has cost more than was reckoned with, bool, (tasks,)."""
        own = seen.player == seen.candidate[:, None]
        return (own & (seen.cost > self.largest(seen)[:, None])).any(dim=1)

    def is_over(self, seen: Evidence, number: Tensor, *, part: float = 1.0) -> Tensor:
        """Whether the policies of some numbers are found to cost more than the limit on average, bool, (tasks,).

        Args:
            seen: the episodes so far.
            number: (tasks,).
            part: of delta.
        """
        own = seen.player == number[:, None]
        return exceeds(seen.cost, own, limit=seen.limit, delta=self.level(number) * part)

    def level(self, number: Tensor) -> Tensor:
        """The part of delta for the policies of some numbers, (tasks,): a half, a fourth, ...; their sum is delta."""
        return self.delta * 0.5 ** (number + 1)


def largest_share(upper: Tensor, fallback: Tensor, limit: Tensor) -> Tensor:
    """The largest alpha in [0, 1] with alpha u + (1 - alpha) s <= d, (tasks,); 0 where there is none.

    Args:
        upper: u, bound on the candidate's mean cost, (tasks,).
        fallback: s, bound on that of the fallback, (tasks,).
        limit: d, (tasks,).
    """
    slack = limit - fallback
    alpha = (slack / (upper - fallback)).where((slack > 0) & (upper > limit), 0.0)
    return alpha.where(~(upper <= limit), 1.0)
