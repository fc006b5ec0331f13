import pytest
import torch

from cmaml_pl.math.advantages import (
    episode_cost_from_values,
    episode_sums,
    first_episode_sums,
    gae,
    mean_episode_sum,
    standardise,
)


def rollout(seed=0, tasks=2, envs=3, time=12):
    """Random signals with a termination and a truncation inside, and a cut at the end."""
    g = torch.Generator().manual_seed(seed)
    shape = (tasks, envs, time, 1)
    signal, value, next_value = (torch.randn(shape, generator=g) for _ in range(3))
    terminated = torch.zeros(shape, dtype=torch.bool)
    truncated = torch.zeros(shape, dtype=torch.bool)
    terminated[0, 0, 4] = True
    truncated[0, 1, 7] = True
    truncated[1, 2, 2] = truncated[1, 2, 9] = True
    truncated[:, :, -1] = True
    return signal, value, next_value, terminated | truncated, terminated


@pytest.mark.parametrize(("gamma", "lmbda"), [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_gae_equals_a_naive_loop_across_truncations(gamma, lmbda):
    signal, value, next_value, done, terminated = rollout()
    expected = torch.zeros_like(signal)
    for p in range(signal.shape[0]):
        for e in range(signal.shape[1]):
            ahead = 0.0
            for t in reversed(range(signal.shape[2])):
                at = (p, e, t, 0)
                if done[at]:
                    ahead = 0.0  # nothing of the next episode
                bootstrap = 0.0 if terminated[at] else next_value[at]
                delta = signal[at] + gamma * bootstrap - value[at]
                ahead = delta + gamma * lmbda * ahead
                expected[at] = ahead
    result = gae(signal, value, next_value, done, terminated, gamma=gamma, lmbda=lmbda)
    torch.testing.assert_close(result, expected)


def test_gae_of_the_next_episode_leaves_the_one_before_alone():
    signal, value, next_value, done, terminated = rollout()
    before = gae(signal, value, next_value, done, terminated, gamma=0.99, lmbda=0.95)
    signal[0, 1, 8:] += 100.0  # the episode after the truncation at 7
    after = gae(signal, value, next_value, done, terminated, gamma=0.99, lmbda=0.95)
    torch.testing.assert_close(after[0, 1, :8], before[0, 1, :8])


@pytest.mark.parametrize(("discount", "expected"), [(1.0, (4 + 2) / 2), (0.5, (1.875 + 1.5) / 2)])
def test_the_mean_over_episodes_is_over_the_first_episode_of_each_world(discount, expected):
    signal = torch.ones(1, 3, 6, 1)
    done = torch.zeros(1, 3, 6, 1, dtype=torch.bool)
    done[0, 0, 3] = True  # one episode of 4 steps, two steps of another
    done[0, 1, 1] = done[0, 1, 5] = True  # episodes of 2 and 4 steps
    # the third world ends no episode
    torch.testing.assert_close(mean_episode_sum(signal, done, discount=discount), torch.tensor([expected]))


def test_the_mean_cost_of_episodes_that_may_end_early_is_not_biased_by_where_the_batch_ends():
    """A step costs 1 and ends the episode with probability 1/20, at most after 40 steps: E = (1 - 0.95^40) / 0.05."""
    worlds, horizon, share = 20_000, 40, 0.05
    falls = torch.rand(1, worlds, horizon, 1, generator=torch.Generator().manual_seed(0)) < share
    done, steps = falls.clone(), torch.zeros(worlds)
    for t in range(horizon):
        steps += 1
        done[0, :, t, 0] |= steps == horizon
        steps[done[0, :, t, 0]] = 0
    cost = mean_episode_sum(torch.ones_like(done, dtype=torch.float32), done)
    expected = (1 - (1 - share) ** horizon) / share
    assert cost.item() == pytest.approx(expected, abs=4 * 13 / worlds**0.5)  # 13: standard deviation of the length
    every_complete = episode_sums(torch.ones_like(done, dtype=torch.float32), done).nanmean()
    assert every_complete < 0.9 * expected


def test_standardised_advantages_have_mean_zero_and_variance_one_in_each_task():
    advantage = (
        torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1e-3], [1.0], [1e3]]) + 7
    )
    result = standardise(advantage)
    torch.testing.assert_close(result.mean(dim=1), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(result.square().mean(dim=1), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("constant", [0.0, 3.7, -1e6])
def test_a_constant_advantage_becomes_zero_and_not_noise(constant):
    assert torch.equal(standardise(torch.full((2, 30), constant)), torch.zeros(2, 30))


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.99, 1.0])
def test_episode_cost_from_values_is_the_sum_of_the_costs_wherever_they_lie(gamma, discount):
    cost, _, _, done, _ = rollout()
    done[0, 2, -1] = False  # an episode that the batch cuts
    value, after = torch.zeros_like(cost), torch.zeros_like(cost[..., 0, :])
    for t in reversed(range(cost.shape[-2])):
        after = torch.where(done[..., t, :], 0.0, after)
        after = value[..., t, :] = cost[..., t, :] + gamma * after
    predicted = episode_cost_from_values(value, done, gamma=gamma, discount=discount)
    torch.testing.assert_close(predicted, mean_episode_sum(cost, done, discount=discount))


def test_each_episodes_sum_stands_at_its_end():
    signal, _, _, done, _ = rollout()
    done[0, 2, -1] = False  # an episode that the batch cuts
    sums = episode_sums(signal, done)
    assert torch.equal(sums.isnan(), ~done)
    for p, e in ((p, e) for p in range(2) for e in range(3)):
        start = 0
        for t in done[p, e, :, 0].nonzero()[:, 0].tolist():
            torch.testing.assert_close(sums[p, e, t, 0], signal[p, e, start : t + 1, 0].double().sum())
            start = t + 1


@pytest.mark.parametrize("discount", [1.0, 0.8])
def test_the_first_episodes_sums_give_the_mean(discount):
    signal, _, _, done, _ = rollout()
    sums = episode_sums(signal, done, discount=discount)
    first = sums.gather(2, done.int().argmax(dim=2, keepdim=True))[:, :, 0, 0]
    torch.testing.assert_close(first.mean(dim=1).float(), mean_episode_sum(signal, done, discount=discount))


def test_the_first_episode_of_each_world_is_summed_by_itself():
    done = torch.zeros(2, 2, 4, 1, dtype=torch.bool)
    done[0, 0, 1] = done[0, 0, 3] = done[0, 1, 3] = done[1, 0, 0] = True  # the last world's does not end
    cost = torch.tensor([[[1.0, 2, 4, 8], [1, 1, 1, 1]], [[5, 1, 1, 1], [1, 1, 1, 1]]])[..., None]
    found = first_episode_sums(cost, done, discount=0.5)
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.875], [5.0, torch.nan]]), equal_nan=True)
    means = mean_episode_sum(cost, done, discount=0.5)
    torch.testing.assert_close(means, found.nanmean(dim=1))
