"""The mixture: closed forms of the share, how often it is over the limit, and what happens to candidates."""

import pytest
import torch
from tensordict import TensorDict

from cmaml_pl.deployment.base import Adapted
from cmaml_pl.deployment.mixture import Mixture, largest_share

LIMIT, WORST = 3.0, 5.0
LARGEST = WORST * LIMIT


@pytest.mark.parametrize(
    ("upper", "fallback", "share"),
    [
        (15.0, 1.0, 2.0 / 14.0),  # nothing is known of the candidate: the slack over the range
        (6.0, 1.0, 2.0 / 5.0),
        (3.0, 1.0, 1.0),  # at the limit is within it
        (0.5, 9.0, 1.0),
        (6.0, 3.0, 0.0),  # no slack
        (6.0, 9.0, 0.0),
        (5.0, 6.0, 0.0),
    ],
)
def test_the_share_is_the_largest_at_which_the_bound_of_the_mixture_is_within_the_limit(upper, fallback, share):
    found = largest_share(*(torch.tensor([value]) for value in (upper, fallback, LIMIT))).item()
    assert found == pytest.approx(share)
    if 0 < found < 1:
        assert found * upper + (1 - found) * fallback == pytest.approx(LIMIT)


def rollout_of(cost):
    """A rollout whose episodes have one step and this cost, (tasks, envs)."""
    cost = cost[..., None, None]
    return TensorDict({"next": {"cost": cost, "done": torch.ones_like(cost, dtype=torch.bool)}}, cost.shape[:3])


def go_on(mixture, now, cost, worlds, theta=None):
    return mixture.go_on(now, now.theta if theta is None else theta, rollout_of(cost), worlds, discount=1.0)


def draw(kind, mean, generator):
    """Costs of the given means, (tasks, envs), between 0 and LARGEST."""
    if kind == "normal":
        return mean + 0.1 * mean * torch.randn(mean.shape, generator=generator).clamp(-4, 4)
    size = LARGEST if kind == "all or nothing" else (4 * mean).clamp_max(LARGEST)
    return size * (torch.rand(mean.shape, generator=generator) < mean / size)


def play(strategy, kind, *, meta, jump, tasks=200, envs=8, steps=10):
    """A policy is the mean cost of its episodes, and an adaptation step adds `jump`.

    Returns:
        The expected cost of an episode, and the share of the adapted policy, at each step, both (steps, tasks).
    """
    generator = torch.Generator().manual_seed(1)
    now = strategy.start(torch.full((tasks, 1), meta), torch.full((tasks,), LIMIT))
    expected, shares = [], []
    for _ in range(steps):
        fallback = now.theta if now.fallback is None else now.fallback
        expected.append((now.share[:, None] * now.theta + (1 - now.share[:, None]) * fallback)[:, 0])
        shares.append(now.share)
        worlds = torch.rand(tasks, envs, generator=generator) < now.share[:, None]
        cost = draw(kind, now.theta.where(worlds, fallback), generator)
        stepped = (now.theta + jump).clamp_max(LARGEST / 1.5)
        theta = stepped.where(now.alone[:, None], now.theta)
        now = strategy.go_on(now, theta, rollout_of(cost), worlds, discount=1.0)
    return torch.stack(expected), torch.stack(shares)


@pytest.mark.parametrize("kind", ["normal", "all or nothing", "skewed"])
@pytest.mark.parametrize(("meta", "jump"), [(0.3, 3.5), (0.3, 9.0), (2.0, 1.5)])
def test_what_is_deployed_costs_more_than_the_limit_in_at_most_delta_of_the_tasks(meta, jump, kind):
    expected, _ = play(Mixture(delta=0.1, worst_cost=WORST), kind, meta=meta, jump=jump)
    assert (expected > LIMIT + 1e-4).any(dim=0).float().mean() <= 0.1
    adapted, _ = play(Adapted(), kind, meta=meta, jump=jump, tasks=1)
    assert (adapted[1:] > LIMIT).all()


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_a_harmless_candidate_is_trusted_in_time(kind):
    expected, shares = play(Mixture(worst_cost=WORST), kind, meta=0.3, jump=0.1, tasks=40, envs=40)
    assert (expected <= LIMIT).all()
    assert shares[1].max() < 0.2
    assert (shares[2:] == 1).any(dim=0).float().mean() > 0.9


def started(tasks=1, meta=0.0):
    """After enough episodes of the meta-policy that cost nothing; the candidate is 1 away from it."""
    mixture = Mixture(worst_cost=WORST)
    now = mixture.start(torch.full((tasks, 1), meta), torch.full((tasks,), LIMIT))
    everywhere = torch.ones(tasks, 60, dtype=torch.bool)
    return mixture, go_on(mixture, now, torch.zeros(tasks, 60), everywhere, now.theta + 1)


def test_before_evidence_the_share_is_the_slack_over_the_range_of_costs():
    mixture, now = started()
    assert now.theta.item() == 1.0
    assert now.fallback.item() == 0.0
    fallback = mixture.upper(now.evidence, torch.zeros(1, dtype=torch.int64)).item()
    assert now.share.item() == pytest.approx((LIMIT - fallback) / (LARGEST - fallback))
    trial = torch.zeros(1, 60, dtype=torch.bool)
    trial[:, :6] = True
    later = go_on(mixture, now, torch.zeros(1, 60), trial)
    assert now.share < later.share < 1


def test_a_candidate_that_is_over_the_limit_is_replaced_by_the_policy_half_way_back():
    mixture, now = started()
    trial = torch.zeros(1, 8, dtype=torch.bool)
    trial[:, :4] = True
    later = go_on(mixture, now, 9.0 * trial, trial)
    assert (later.theta.item(), later.fallback.item()) == (0.5, 0.0)
    assert 0 < later.share <= now.share * 1.1  # nothing is known of the new one


def test_one_episode_beyond_what_was_reckoned_with_is_enough():
    mixture, now = started()
    trial = torch.zeros(1, 8, dtype=torch.bool)
    trial[:, 0] = True
    for cost, theta in ((LARGEST, 1.0), (LARGEST + 0.1, 0.5), (torch.nan, 0.5)):
        assert go_on(mixture, now, torch.zeros(1, 8).masked_fill(trial, cost), trial).theta.item() == theta


def test_a_costly_episode_of_the_fallback_makes_trials_rarer_and_is_no_reason_to_play_the_candidate_alone():
    mixture, now = started()
    cost, nowhere = torch.zeros(1, 60), torch.zeros(1, 60, dtype=torch.bool)
    cost[0, 0] = 2 * LARGEST
    later = go_on(mixture, now, cost, nowhere)
    assert later.theta.item() == 1.0
    assert 0 < later.share < now.share / 1.5
    assert mixture.upper(later.evidence, later.evidence.candidate).item() == pytest.approx(2 * LARGEST)


def test_a_trusted_candidate_becomes_the_fallback_and_is_moved_on():
    mixture, now = started()
    half = torch.zeros(1, 80, dtype=torch.bool)
    half[:, :40] = True
    trusted = go_on(mixture, now, torch.zeros(1, 80), half)
    assert trusted.alone
    assert (trusted.theta.item(), trusted.fallback.item()) == (1.0, 0.0)
    later = go_on(mixture, trusted, torch.zeros(1, 8), torch.ones(1, 8, dtype=torch.bool), trusted.theta + 1)
    assert (later.theta.item(), later.fallback.item()) == (2.0, 1.0)
    assert 0 < later.share < 1


def test_where_the_fallback_itself_is_over_the_limit_the_adapted_policy_plays_alone():
    mixture = Mixture(worst_cost=WORST)
    now = mixture.start(torch.zeros(1, 1), torch.full((1,), LIMIT))
    later = go_on(mixture, now, torch.full((1, 16), 8.0), torch.ones(1, 16, dtype=torch.bool), now.theta + 1)
    assert later.alone
    assert later.theta.item() == 1.0


def test_a_policy_whose_step_was_rejected_goes_on_alone():
    mixture = Mixture(worst_cost=WORST)
    now = mixture.start(torch.zeros(1, 1), torch.full((1,), LIMIT))
    later = go_on(mixture, now, torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool))
    assert later.alone
    assert later.evidence.candidate.item() == later.evidence.fallback.item() == 0


def test_a_task_is_decided_on_by_itself():
    generator = torch.Generator().manual_seed(2)
    mixture, now = started(tasks=5)
    worlds = torch.rand(5, 40, generator=generator) < 0.3
    cost = torch.rand(5, 40, generator=generator) * torch.arange(5)[:, None] * 3
    together = go_on(mixture, now, cost, worlds)
    for p in range(5):
        _, alone = started()
        alone = go_on(mixture, alone, cost[p : p + 1], worlds[p : p + 1])
        assert torch.equal(alone.share, together.share[p : p + 1])
        assert torch.equal(alone.theta, together.theta[p : p + 1])
