"""A trust region for the meta-step, independent of the optimiser that proposes the step."""

import torch
from torch import Tensor

from cmaml_pl.distributed.ranks import ALONE, Ranks
from cmaml_pl.inner.base import mean_kl
from cmaml_pl.math.natural_gradient import line_search
from cmaml_pl.nets.networks import Actor
from cmaml_pl.rollout.task_data import TaskData

LINE_SEARCH_RATIO, LINE_SEARCH_TRIES = 0.8, 30
"""Each try has 0.8 of the length of the one before (OmniSafe), and there are 30 tries. The last one has 1/650 of the
step's length: Adam knows nothing of divergences, so that its step may be far too long."""


@torch.no_grad()
def limit_step(
    actor: Actor, old: Tensor, pre: TaskData, *, max_kl: float | None, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """Shorten the meta-step until mean KL(old || new) <= max_kl over the states of the rollouts `pre`.

    Args:
        actor: the meta-policy after the step; changed in place if the step was too long.
        old: the meta-parameters before the step, (P,); they have collected `pre`.
        pre: rollouts of `old`.
        max_kl: largest divergence, nats; None keeps the whole step.
        ranks: the processes that hold tasks.

    Returns:
        The mean KL(old || new) of the step that was taken, nats, and its share of the proposed step, both scalar. If no
        length was accepted, or the proposed step was zero, the share is 0 and the actor has the parameters `old`.
        Without `max_kl` the share is always 1.
    """

    def kl(candidate: Tensor) -> Tensor:  # (1, P) -> (1,)
        return ranks.mean(mean_kl(actor, candidate.expand(len(pre.features), -1), pre))[None]

    proposed = actor.vector()
    if max_kl is None:
        return kl(proposed[None])[0], torch.ones((), device=old.device)
    limited, share = line_search(
        # a comparison with NaN is false, so parameters that are not finite are refused
        lambda candidate: kl(candidate) <= max_kl,
        old[None],
        (proposed - old)[None],
        ratio=LINE_SEARCH_RATIO,
        tries=LINE_SEARCH_TRIES,
    )
    actor.load_vector(limited[0])
    return kl(limited)[0], share[0]
