"""Actors made from networks of a user's own."""

import pytest
import torch
from tests.helpers import make_actor
from torch import nn

from cmaml_pl.distributed.threads import RowThreads
from cmaml_pl.errors import UserError
from cmaml_pl.nets.own_actor import make_own_actor

RESIDUAL = "examples.own_parts.network:Residual"


class Plain(nn.Module):
    """The network of a GaussianActor, with a buffer."""

    def __init__(self, observation_size, action_size):
        super().__init__()
        self.mean = nn.Sequential(
            nn.Linear(observation_size, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, action_size)
        )
        self.log_std = nn.Parameter(torch.zeros(action_size))
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, x):
        return self.mean(x) + self.shift, self.log_std.exp()


def both():
    """A GaussianActor, an OwnActor of the same shape, and stacked parameters and features for them."""
    gaussian = make_actor(hidden=(6, 4))
    own = make_own_actor(f"{__name__}:Plain", 3, gaussian.log_std.numel(), options={}, seed=0)
    generator = torch.Generator().manual_seed(1)
    theta = gaussian.vector() + 0.1 * torch.randn(4, gaussian.vector().numel(), generator=generator)
    return gaussian, own, theta, torch.randn(4, 9, 3, generator=generator)


def second_derivative(actor, theta, features):
    leaf = theta.clone().requires_grad_()
    loc, scale = actor.stacked(leaf, features)
    (gradient,) = torch.autograd.grad((loc.square() / scale).sum(), leaf, create_graph=True)
    (again,) = torch.autograd.grad(gradient.square().sum(), leaf)
    return torch.cat([gradient.detach(), again])


def test_a_network_like_the_gaussian_actors_gives_its_numbers_and_derivatives():
    gaussian, own, theta, features = both()
    for mine, expected in zip(own.stacked(theta, features), gaussian.stacked(theta, features), strict=True):
        torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(second_derivative(own, theta, features), second_derivative(gaussian, theta, features))
    assert own.log_std_slice == gaussian.log_std_slice
    assert torch.equal(own.mask("mean"), gaussian.mask("mean"))
    for actor in (own, gaussian):
        actor.load_vector(theta[1])
    torch.testing.assert_close(own(features), gaussian(features))
    torch.testing.assert_close(own.mean_std(features), gaussian.mean_std(features))


class TwoAxes(Plain):
    """A network for (samples, D) alone."""

    def forward(self, x):
        samples, _ = x.shape
        loc, scale = super().forward(x)
        return loc, scale.expand(samples, -1)


def test_a_network_gets_samples_whatever_the_axes_of_the_observations_are():
    actor, features = make_own_actor(f"{__name__}:TwoAxes", 3, 2, options={}, seed=0), both()[-1]
    rows = actor.stacked(actor.vector().expand(4, -1), features)
    torch.testing.assert_close(actor(features), rows)
    torch.testing.assert_close(actor(features[0, 0]), (rows[0][0, 0], rows[1][0, 0]))
    torch.testing.assert_close(actor.mean_std(features), rows[1].mean())


def test_rows_do_not_mix_and_threads_change_no_bit():
    actor = make_own_actor(RESIDUAL, 3, 2, options={"width": 16}, seed=0)
    generator = torch.Generator().manual_seed(1)
    theta = actor.vector() + 0.1 * torch.randn(8, actor.vector().numel(), generator=generator)
    features = torch.randn(8, 9, 3, generator=generator)
    whole = torch.stack(actor.stacked(theta, features))
    threads = RowThreads(4)
    for _ in range(20):
        parts = threads.map(lambda part: torch.stack(actor.stacked(theta[part], features[part])), 8)
        assert torch.equal(torch.cat(parts, dim=1), whole)
    threads.close()
    for p in range(8):
        actor.load_vector(theta[p])
        torch.testing.assert_close(torch.stack(actor.network(features[p])), whole[:, p])
    assert whole[1, 0].std(dim=0).min() > 0  # the noise depends on the observation


def test_buffers_are_those_of_the_network():
    _, own, theta, features = both()
    before = own.stacked(theta, features)[0]
    own.network.shift += 1.0
    torch.testing.assert_close(own.stacked(theta, features)[0], before + 1.0)


def test_parts_are_attributes_and_the_seed_alone_decides_the_weights():
    actor, again = (make_own_actor(RESIDUAL, 3, 2, options={"width": 16}, seed=5) for _ in range(2))
    assert torch.equal(actor.vector(), again.vector())
    assert not torch.equal(actor.vector(), make_own_actor(RESIDUAL, 3, 2, options={"width": 16}, seed=6).vector())
    sizes = [16 * 2 + 2, 16 * 2 + 2]  # weights and biases of head and log_std, the last layers
    assert actor.vector()[actor.mask("head").bool()].numel() == sizes[0]
    assert int(actor.mask("mean").sum()) == actor.vector().numel() - sizes[1]
    assert actor.mask("all") is None
    with pytest.raises(UserError, match=r"inner\.trust_region\.parameters is context, but .*Residual .* has no param"):
        actor.mask("context")


def untrue(observation_size: int, action_size: int) -> nn.Module:
    return object()  # type: ignore[return-value]  # what the test is about


class Odd(Plain):
    def __init__(self, observation_size, action_size, way):
        super().__init__(observation_size, action_size)
        self.way = way

    def forward(self, x):
        loc, scale = super().forward(x)
        return {
            "single": loc,
            "shape": (loc[..., :1], scale),
            "negative": (loc, -scale),
            "mixed": (loc - loc.mean(dim=0), scale),
            "chance": (nn.functional.dropout(loc), scale),
        }[self.way]


class Recurrent(Plain):
    def __init__(self, observation_size, action_size):
        super().__init__(observation_size, action_size)
        self.memory = nn.GRU(observation_size, observation_size, batch_first=True)

    def forward(self, x):
        return super().forward(self.memory(x[:, None])[0][:, 0])


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("nowhere:Net", {}, r"policy\.actor is 'nowhere:Net', which cannot be imported"),
        (RESIDUAL, {"wide": 3}, r"policy\.actor is '.*Residual', which cannot be used: TypeError: .*'wide'"),
        ("torch:zeros", {}, r"policy\.actor is 'torch:zeros', but must be a class that inherits from .*Module"),
        (f"{__name__}:untrue", {}, r"cannot be used: TypeError: it gives object, which is no nn\.Module"),
        ("torch.nn:Identity", {}, r"but it has no parameters"),
        ("torch.nn:LSTM", {}, r"it has a recurrent layer, LSTM, and no attribute state_size: give it one"),
        (f"{__name__}:Recurrent", {}, r"policy\.actor is '.*Recurrent', but it has a recurrent layer, GRU, and no"),
        (f"{__name__}:Odd", {"way": "single"}, r"its forward must give a pair, .* here \(5, 2\), and their standard"),
        (f"{__name__}:Odd", {"way": "shape"}, r"its forward must give a pair"),
        (f"{__name__}:Odd", {"way": "negative"}, r"or its standard deviations are not positive"),
        (f"{__name__}:Odd", {"way": "mixed"}, r"an observation depends on the other observations of the batch"),
        (f"{__name__}:Odd", {"way": "chance"}, r"on the other observations of the batch, or on chance"),
    ],
)
def test_what_is_no_actor_is_refused_with_the_reason(path, options, message):
    with pytest.raises(UserError, match=message):
        make_own_actor(path, 3, 2, options=options, seed=0)
