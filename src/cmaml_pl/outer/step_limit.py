"""A trust region for the meta-step, whatever optimiser proposes it."""

import torch
from torch import Tensor

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.math.natural_gradient import line_search
from cmaml_pl.nets.networks import GaussianActor
from cmaml_pl.rollout.task_data import TaskData

LINE_SEARCH_RATIO, LINE_SEARCH_TRIES = 0.8, 30
"""Each try is so much shorter (OmniSafe); the last leaves 1/650 of the step, for Adam knows nothing of divergences."""


@torch.no_grad()
def limit_step(
    actor: GaussianActor, old: Tensor, pre: TaskData, *, max_kl: float | None, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """Draw the meta-policy back toward where it was, until mean KL(old || new) <= max_kl over its own states.

    Args:
        actor: the meta-policy after the step; changed in place if the step was too long.
        old: the meta-parameters before it, (P,), which collected `pre`.
        pre: rollouts of `old`.
        max_kl: nats; None leaves the actor as it is.
        ranks: those that hold tasks.

    Returns:
        The divergence that is left, nats, and the share of the step that was taken, both scalar. The share is 0, and
        the actor as it was, if no length was accepted or there was no step.
    """

    def kl(candidate: Tensor) -> Tensor:  # (1, P) -> (1,)
        return ranks.mean(mean_kl(actor, candidate.expand(len(pre.features), -1), pre))[None]

    proposed = actor.vector()
    if max_kl is None:
        return kl(proposed[None])[0], torch.ones(())
    limited, share = line_search(
        # a comparison with NaN is false: parameters that left the numbers are refused
        lambda candidate: kl(candidate) <= max_kl,
        old[None],
        (proposed - old)[None],
        ratio=LINE_SEARCH_RATIO,
        tries=LINE_SEARCH_TRIES,
    )
    actor.load_vector(limited[0])
    return kl(limited)[0], share[0]
