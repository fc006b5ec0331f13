"""Actors that remember, made from networks of a user's own that have a state."""

import pytest
import torch
from torch import nn

from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.errors import UserError
from cmaml_pl.nets.own_actor import RecurrentActor, make_own_actor

MEMORY = "examples.own_parts.memory:Memory"
TASKS, ENVS, TIME = 3, 2, 5


class Cell(nn.Module):
    """A network with a state of 6 numbers."""

    def __init__(self, observation_size, action_size, state_size=6, way=None):
        super().__init__()
        self.state_size, self.way = state_size, way
        self.remember(observation_size)
        self.head = nn.Linear(3, action_size)
        self.log_std = nn.Parameter(torch.zeros(action_size))

    def remember(self, observation_size):
        self.cell = nn.LSTMCell(observation_size, 3)

    def advance(self, x, state):
        short, long = self.cell(x, state.chunk(2, dim=1))
        return torch.cat([short, long], dim=1)

    def forward(self, x, state):
        state = self.advance(x, state)
        loc, scale = self.head(state[:, :3]), self.log_std.exp()
        return {
            None: (loc, scale, state),
            "pair": (loc, scale),
            "shape": (loc, scale, state[:, :3]),
            "infinite": (loc, scale, state / 0.0),
            "mixed": (loc, scale, state - state.mean(dim=0)),
        }[self.way]


class Sequence(Cell):
    """A layer of whole sequences."""

    def remember(self, observation_size):
        self.cell = nn.GRU(observation_size, 6)


class Leaky(Cell):
    """One whose memory is of layers alone."""

    def remember(self, observation_size):
        self.write, self.keep = nn.Linear(observation_size, 6), nn.Linear(6, 6, bias=False)

    def advance(self, x, state):
        return torch.tanh(self.write(x) + self.keep(state))


CELLS = {"GRU": (MEMORY, {"width": 6}), "LSTM": (f"{__name__}:Cell", {}), "layers": (f"{__name__}:Leaky", {})}


def make(cell="GRU", **more):
    """An actor, parameters for some tasks, and their episodes (tasks, envs, time, D + 1), some of which end early."""
    path, options = CELLS[cell]
    actor = make_own_actor(path, 3, 2, options={**options, **more}, seed=0)
    generator = torch.Generator().manual_seed(1)
    theta = actor.vector() + 0.3 * torch.randn(TASKS, actor.vector().numel(), generator=generator)
    begins = (torch.rand(TASKS, ENVS, TIME, 1, generator=generator) < 0.3).float()
    begins[:, :, 0] = 1.0
    return actor, theta, torch.cat([torch.randn(TASKS, ENVS, TIME, 3, generator=generator), begins], dim=-1)


def by_hand(actor, theta, features):
    """Loc and scale of one task, (samples, A) each, step by step."""
    actor.load_vector(theta)
    results = []
    for episode in features:
        for step in episode:
            state = torch.zeros(1, actor.state_size) if step[-1] else state  # noqa: F821  (an episode begins with it)
            loc, scale, state = actor.network(step[None, :-1], state)
            results.append((loc[0], scale.expand(2)))
    return (torch.stack(part) for part in zip(*results, strict=True))


def derivatives(loc, scale, action, parameters):
    """The gradient of a mean log-likelihood, and the gradient of its square, flattened."""
    value = torch.distributions.Normal(loc, scale).log_prob(action).mean()
    first = torch.autograd.grad(value, parameters, create_graph=True)
    second = torch.autograd.grad(sum(part.square().sum() for part in first), parameters)
    return [torch.cat([part.flatten() for part in parts]).detach() for parts in (first, second)]


@pytest.mark.parametrize("cell", CELLS)
def test_actions_and_derivatives_are_those_of_a_loop_over_the_steps_of_every_episode(cell):
    actor, theta, features = make(cell)
    assert isinstance(actor, RecurrentActor)
    action = torch.randn(TASKS, ENVS * TIME, 2, generator=torch.Generator().manual_seed(2))
    for p in range(TASKS):
        leaf = theta.clone().requires_grad_()
        loc, scale = actor.stacked(leaf, features)
        expected = tuple(by_hand(actor, theta[p], features[p]))
        torch.testing.assert_close((loc[p], scale[p]), expected)
        found = derivatives(loc[p], scale[p], action[p], [leaf])
        wanted = derivatives(*expected, action[p], list(actor.parameters()))
        for mine, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine.view(TASKS, -1)[p], other, rtol=1e-4, atol=1e-6)


def test_what_is_remembered_ends_with_the_episode_and_reaches_to_its_end():
    actor, theta, features = make()
    features[..., -1] = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    changed = features.clone()
    changed[:, 0, 0, 0] += 1.0
    before, after = (actor.stacked(theta, x)[0].unflatten(1, (ENVS, TIME)) for x in (features, changed))
    differs = (before != after).any(dim=-1)
    assert differs.tolist() == [[[True, True, True, False, False], [False] * TIME]] * TASKS


def test_threads_change_no_bit():
    actor, theta, features = make(width=32)  # odd sizes, which leave a rest of a register, may change the last ones
    theta, features = theta.repeat(3, 1), features.repeat(3, 2, 1, 1)
    whole, threads = torch.stack(actor.stacked(theta, features)), RowThreads(3)
    for _ in range(5):
        parts = threads.map(lambda part: torch.stack(actor.stacked(theta[part], features[part])), len(theta))
        assert torch.equal(torch.cat(parts, dim=1), whole)
    threads.close()


@pytest.mark.parametrize("cell", CELLS)
def test_a_rank_without_a_task_has_no_rows_and_derivatives_of_none(cell):
    actor, theta, features = make(cell)
    leaf = theta[:0].clone().requires_grad_()
    results = actor.stacked(leaf, features[:0])
    assert [part.shape for part in results] == [(0, ENVS * TIME, 2)] * 2
    (first,) = torch.autograd.grad(results[0].square().sum(), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    assert first.shape == second.shape == leaf.shape


def test_a_policy_is_played_step_by_step_outside_of_training():
    actor, theta, features = make()
    observation = 2.0 + 3.0 * features[0, 0, :, :-1]
    actor.normaliser.update(observation)
    actor.load_vector(theta[0])
    begins = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0])[:, None]
    episode = torch.cat([actor.normaliser(observation), begins], dim=1)
    state, played = torch.zeros(actor.state_size), []
    for x in observation:
        *action, state = actor.advance(x, state)
        played.append(torch.stack(action))
    expected = torch.stack(actor.stacked(theta[:1], episode[None, None]))[:, 0]
    torch.testing.assert_close(torch.stack(played, dim=1), expected)
    torch.testing.assert_close(torch.stack(actor(observation[0])), expected[:, 0])
    torch.testing.assert_close(actor.mean_std(episode[None, None]), expected[1].mean())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Cell", {"state_size": 0}, r"its state_size is 0, but must be a whole number above 0"),
        ("Cell", {"state_size": "6"}, r"its state_size is '6', but must be"),
        ("Cell", {"state_size": 5}, r"which cannot be used: "),
        ("Cell", {"way": "pair"}, r"must give a triple, .* here \(5, 2\), .* and the new state, here \(5, 6\)"),
        ("Cell", {"way": "shape"}, r"must give a triple, .* and the new state, here \(5, 6\)"),
        ("Cell", {"way": "infinite"}, r"what it gives is not finite"),
        ("Cell", {"way": "mixed"}, r"depends on the other observations of the batch"),
        ("Sequence", {}, r"it has a layer GRU, which runs whole sequences: take nn\.GRUCell, one time step"),
    ],
)
def test_what_does_not_keep_to_the_contract_is_refused_with_the_reason(name, options, message):
    with pytest.raises(UserError, match=message):
        make_own_actor(f"{__name__}:{name}", 3, 2, options=options, seed=0)
