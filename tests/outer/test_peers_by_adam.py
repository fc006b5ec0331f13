"""Peers whose meta-step is one of Adam: pairs of inner and outer methods where the constrained optimum is known."""

from typing import Any

import pytest
import torch
from tests.helpers import make_method
from tests.inner.bandit import LIMIT, TARGET, bandit_actor, mean_action, play
from torch import nn

from cmaml_pl.outer.base import MetaBatch, MetaGoal
from cmaml_pl.outer.fomaml import FOMAML
from cmaml_pl.outer.meta_srl import MetaSRL
from cmaml_pl.outer.reptile import Reptile


def meta_learn(outer, inner, *, start, iterations, tasks=4, seed=1):
    """The mean actions before and after adaptation in each meta-iteration of C-MAML's loop on the bandit, K = 1."""
    actor = bandit_actor()
    theta = nn.Parameter(actor.vector())
    with torch.no_grad():
        theta[-2] = start
    optimizer, multiplier = outer.optimizer([theta]), torch.tensor(inner.multiplier_init)
    generator, path = torch.Generator().manual_seed(seed), []
    for _ in range(iterations):
        now = theta.detach().clone()
        rows = now.expand(tasks, -1)
        pre = play(actor, rows, generator)
        step = inner.step(actor, rows, multiplier.expand(tasks).clone(), pre)
        post = play(actor, step.theta, generator)
        path.append(torch.stack([mean_action(actor, rows).mean(0), mean_action(actor, step.theta).mean(0)]))
        _, after, weight = outer.last_step(actor, inner, step.theta, step.multiplier, post)
        multiplier = multiplier.lerp(after.mean(), inner.multiplier_carry)
        theta.grad = outer.direction(actor, now, MetaBatch(now, pre, [MetaGoal(step.theta, weight, post)]))
        optimizer.step()
    return torch.stack(path)


REGION = {"max_kl": 0.02, "lr": 0.01, "passes": 20}
STEP: dict[str, Any] = {"lr": 0.02, "log_std": False}
PEERS = {
    "Meta-SRL": (MetaSRL(**STEP), make_method("crpo", region=REGION, tolerance=0.0), LIMIT),
    "P3O and Reptile": (Reptile(**STEP), make_method("p3o", region=REGION, margin=0.9), 0.9 * LIMIT),
    "MAML-PPO-Lagrangian": (
        FOMAML(**STEP),
        make_method("ppo_lag", region=REGION, multiplier_lr=0.05, multiplier_kp=0.5, multiplier_carry=0.3),
        LIMIT,
    ),
}


@pytest.mark.parametrize("start", [0.0, 1.5])
@pytest.mark.parametrize("peer", PEERS)
def test_the_adapted_policies_come_to_the_constrained_optimum(peer, start):
    outer, inner, end = PEERS[peer]
    path = meta_learn(outer, inner, start=start, iterations=160)
    adapted = path[-60:, 1].mean(dim=0)
    torch.testing.assert_close(adapted, torch.tensor([end, float(TARGET[1])]), rtol=0.0, atol=0.05)
