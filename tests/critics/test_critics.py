import torch

from cmaml_pl.critics.estimation import Transitions, advantages, cost_to_go, reward_to_go, within_episode
from cmaml_pl.critics.fitting import explained_variance, fit_critic
from cmaml_pl.math.advantages import episode_cost_from_values
from cmaml_pl.nets.networks import NoValue, ValueNetwork


def chain(tasks=3, envs=4, time=6, size=2):
    g = torch.Generator().manual_seed(0)
    states = torch.randn(tasks, envs, time + 1, size, generator=g)
    done = torch.zeros(tasks, envs, time, 1, dtype=torch.bool)
    done[:, :, -1] = True
    return Transitions(states[:, :, :-1], states[:, :, 1:], done, torch.zeros_like(done))


def make_critic(seed=0):
    return ValueNetwork(2, hidden=[8], generator=torch.Generator().manual_seed(seed))


def test_cost_to_go_counts_the_episode_and_nothing_after_its_time_limit():
    states = chain()
    cost = torch.ones(3, 4, 6, 1)
    expected = torch.tensor([sum(0.9**k for k in range(6 - t)) for t in range(6)])
    torch.testing.assert_close(cost_to_go(states, cost, gamma=0.9)[1, 2, :, 0], expected)


def test_reward_to_go_goes_on_with_the_critic_beyond_a_time_limit_but_not_beyond_a_termination():
    states, critic = chain(), make_critic()
    reward = torch.ones(3, 4, 6, 1)
    states.terminated[0, 0, -1] = True
    result = reward_to_go(critic, states, reward, gamma=0.9)
    tail = 0.9**6 * critic(states.next_features[:, :, -1]).detach()[..., 0]
    plain = sum(0.9**k for k in range(6))
    torch.testing.assert_close(result[1, 1, 0, 0], plain + tail[1, 1])
    torch.testing.assert_close(result[0, 0, 0, 0], torch.tensor(plain))


def test_the_correction_for_each_task_removes_what_depends_on_the_task():
    """Tasks of opposite reward: a critic that knows only their mean, 0, leaves half of it in the advantage."""
    tasks, envs, time = 2, 64, 5
    g = torch.Generator().manual_seed(0)
    states = torch.randn(tasks, envs, time + 1, 2, generator=g)
    done = torch.ones(tasks, envs, time, 1, dtype=torch.bool)  # every step is an episode: reward is its own return
    transitions = Transitions(states[:, :, :-1], states[:, :, 1:], done, done)
    sign = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    reward = sign * states[:, :, :-1, :1]
    critic = make_critic()
    torch.nn.init.zeros_(critic.body[-1].weight)
    without = advantages(critic, transitions, reward, gamma=0.9, lmbda=0.95, ridge=None)
    with_correction = advantages(critic, transitions, reward, gamma=0.9, lmbda=0.95, ridge=1e-4)
    assert without.square().mean() > 0.5
    assert with_correction.square().mean() < 1e-3


def test_progress_keeps_its_advantage_under_the_correction():
    """A reward that is a difference of potentials must not be explained away; see `advantages`."""
    g = torch.Generator().manual_seed(0)
    tasks, envs, time = 2, 16, 50
    moves = 0.05 * torch.randn(tasks, envs, time, 2, generator=g)
    position = torch.cat([torch.zeros(tasks, envs, 1, 2), moves.cumsum(dim=2)], dim=2)
    done = torch.zeros(tasks, envs, time, 1, dtype=torch.bool)
    done[:, :, -1] = True
    features = position / position.std()
    transitions = Transitions(features[:, :, :-1], features[:, :, 1:], done, torch.zeros_like(done))
    reward = moves[..., :1]  # progress along x
    critic = make_critic()
    torch.nn.init.zeros_(critic.body[-1].weight)
    advantage = advantages(critic, transitions, reward, gamma=0.99, lmbda=0.5, ridge=0.03)
    correlation = torch.corrcoef(torch.stack([advantage.flatten(), moves[..., 0].flatten()]))[0, 1]
    assert correlation > 0.5


def test_fitting_reaches_the_least_squares_error_of_a_function_it_can_express():
    critic = make_critic()
    g = torch.Generator().manual_seed(1)
    x = torch.randn(400, 2, generator=g)
    y = (x[:, :1] - 0.5 * x[:, 1:]).tanh()
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    before = explained_variance(critic, x, y)
    loss = fit_critic(critic, optimizer, x, y, passes=60, minibatch=64, generator=g)
    assert loss < 0.01
    assert explained_variance(critic, x, y) > 0.95 > before


def test_explained_variance_of_a_constant_target_is_zero_and_not_nan():
    assert explained_variance(make_critic(), torch.zeros(5, 2), torch.ones(5, 1)) == 0.0


def test_without_a_shared_critic_each_task_has_its_own_linear_one_alone():
    states = chain()
    reward = torch.randn(3, 4, 6, 1, generator=torch.Generator().manual_seed(1))
    found = advantages(NoValue(), states, reward, gamma=0.9, lmbda=0.8, ridge=0.1)
    for p in range(3):
        # the discounted rest of the episode, regressed on [s, s^2, 1] by the normal equations
        target = torch.zeros(4, 6)
        rest = torch.zeros(4)
        for t in reversed(range(6)):
            rest = reward[p, :, t, 0] + 0.9 * rest
            target[:, t] = rest
        phi, after = (
            torch.cat([s, s**2, torch.ones_like(s[..., :1])], dim=-1)
            for s in (states.features[p], states.next_features[p])
        )
        x = phi.flatten(0, 1)
        w = torch.linalg.inv(x.T @ x / len(x) + 0.1 * torch.eye(5)) @ x.T @ target.flatten() / len(x)
        delta = reward[p, ..., 0] + 0.9 * after @ w - phi @ w
        expected = torch.zeros(4)
        for t in reversed(range(6)):
            expected = delta[:, t] + 0.9 * 0.8 * expected
            torch.testing.assert_close(found[p, :, t, 0], expected, rtol=1e-4, atol=1e-5)


def test_the_time_that_is_left_and_the_end_of_the_episode_are_in_what_the_safety_critic_sees():
    states = chain(tasks=1, envs=1, time=6)
    states.done[0, 0, 2] = True  # a first episode of three steps, then one of three
    seen = within_episode(states, horizon=4)
    assert seen.features[0, 0, :, -1].tolist() == [1.0, 0.75, 0.5, 1.0, 0.75, 0.5]
    assert seen.next_features[0, 0, :, -1].tolist() == [0.75, 0.5, 0.25, 0.75, 0.5, 0.25]
    assert torch.equal(seen.features[..., :-1], states.features)
    assert torch.equal(seen.terminated, states.done)


def test_a_critic_that_knows_the_time_predicts_what_an_episode_costs():
    """Every step costs 1 and no state tells the time: a critic without it is wrong at both ends of the episode."""
    states = chain(tasks=1, envs=64, time=40)
    cost = torch.ones_like(states.done, dtype=torch.float32)
    errors = {}
    for name, seen in {"told": within_episode(states, 40), "not told": states}.items():
        target = cost_to_go(within_episode(states, 40), cost, gamma=0.99)
        critic = ValueNetwork(seen.features.shape[-1], hidden=[16], generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(1)
        fit_critic(critic, optimizer, seen.features, target, passes=60, minibatch=256, generator=generator)
        predicted = episode_cost_from_values(critic(seen.features), states.done, gamma=0.99)
        errors[name] = abs(float(predicted.detach()) - 40.0) / 40.0
    assert errors["told"] < 0.1
    assert errors["not told"] > 0.15
