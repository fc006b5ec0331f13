"""Actors made from any network of a user's own, which gives mean and standard deviation of the actions."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchrl.modules import GRUCell, LSTMCell

from cmaml_pl.errors import UserError
from cmaml_pl.imports import import_maker, told
from cmaml_pl.nets.networks import Actor, ObservationNormaliser


class OwnActor(Actor):
    """An actor whose parameters are those of a network, features (samples, D) -> loc and scale, (samples, A).

    The network's attribute `log_std`, a parameter or a module, is exploration noise alone. Its attributes `context` and
    `head` are the parts of these names, see PARTS.

    Args:
        network: reads normalised observations, and treats each of them alone. A scale that is the same for all
            observations may be (A,).
        name: what the network is, for messages.
        observation_size: D.
    """

    def __init__(self, network: nn.Module, name: str, observation_size: int) -> None:
        super().__init__()
        self.network, self.name = network, name
        self.normaliser = ObservationNormaliser(observation_size)
        self._replicas: dict[int, nn.Module] = {}

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor."""
        loc, scale = self.run(observation)
        return loc, scale

    def run(self, observation: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """What the network gives for raw observations, (..., D), and for states, if it reads any, (..., S)."""
        inputs = (self.normaliser(observation), *state)
        loc, scale, *new_state = self.network(*(x.reshape(-1, x.shape[-1]) for x in inputs))
        shape = (*observation.shape[:-1], -1)
        return tuple(part.reshape(shape) for part in (loc, scale.expand_as(loc), *new_state))

    def stacked(self, theta: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor."""
        loc, scale = self._with(theta)(features)
        return loc, scale

    def _with(self, theta: Tensor) -> Callable[..., tuple[Tensor, ...]]:
        """The network with every task's own parameters, (tasks, P), for inputs (tasks, samples, ...)."""
        if not len(theta):  # of a rank without a task; a network may not be able to run no rows, but one of zeros
            return lambda *inputs: tuple(part[:0] for part in self._with(_one(theta))(*map(_one, inputs)))
        sizes = [parameter.numel() for parameter in self.network.parameters()]
        rows = {
            name: row.unflatten(1, parameter.shape) if parameter.ndim else row[:, 0]
            for (name, parameter), row in zip(self.network.named_parameters(), theta.split(sizes, dim=1), strict=True)
        }
        # functional_call puts the parameters into the module while it runs, so that each thread needs a module
        if get_ident() not in self._replicas:
            self._replicas[get_ident()] = _replicate(self.network)
        network = self._replicas[get_ident()]
        buffers = dict(self.network.named_buffers())

        def run(parameters: dict[str, Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
            loc, scale, *new_state = functional_call(network, (parameters, buffers), inputs)
            return loc, scale.expand_as(loc), *new_state

        return partial(torch.vmap(run), rows)

    def mean_std(self, features: Tensor) -> Tensor:
        """See Actor."""
        with torch.no_grad():
            scale: Tensor = self.network(features.reshape(-1, features.shape[-1]))[1]
        return scale.mean()

    def mask(self, part: str) -> Tensor | None:
        """See Actor.

        Raises:
            UserError: the network has no attribute of the part's name.
        """
        if part == "all":
            return None
        size, device = sum(parameter.numel() for parameter in self.parameters()), self.normaliser.mean.device
        if part == "mean":
            result = torch.ones(size, device=device)
            result[self.log_std_slice] = 0.0
            return result
        found = self._slice(part)
        if found == slice(0, 0):
            raise UserError(
                f"inner.trust_region.parameters is {part}, but {self.name} (policy.actor) has no parameters in an "
                f"attribute {part}: give it one, or choose all or mean."
            )
        result = torch.zeros(size, device=device)
        result[found] = 1.0
        return result

    @property
    def log_std_slice(self) -> slice:
        """See Actor."""
        return self._slice("log_std")

    def _slice(self, attribute: str) -> slice:
        """The entries of theta in an attribute of the network, which lie side by side; empty if there are none."""
        named = [(name.split(".")[0], p.numel()) for name, p in self.network.named_parameters()]
        ends = accumulate(size for _, size in named)
        own = [(end - size, end) for (name, size), end in zip(named, ends, strict=True) if name == attribute]
        return slice(own[0][0], own[-1][1]) if own else slice(0, 0)


def _one(rows: Tensor) -> Tensor:
    """A row of zeros after no rows, (0, ...) -> (1, ...), which keeps its place in the graph of derivatives."""
    return torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])


CELLS: dict[type, type] = {nn.GRUCell: GRUCell, nn.LSTMCell: LSTMCell}
"""PyTorch's cells, which torch.vmap runs only task by task -> TorchRL's, the same in Python, which it runs at once."""


def _replicate(network: nn.Module) -> nn.Module:
    """A copy of the network, with the cells that torch.vmap can run."""
    result = copy.deepcopy(network)
    for module in result.modules():
        module.__class__ = CELLS.get(type(module), type(module))
    return result


class RecurrentActor(OwnActor):
    """An OwnActor whose network remembers: features (samples, D), state (samples, S) -> loc, scale, new state.

    The network is called once for each time step. In the first step of an episode the state is 0. Updates run whole
    episodes and differentiate through all of their steps (backpropagation through time, without truncation).
    """

    def __init__(self, network: nn.Module, name: str, observation_size: int) -> None:
        super().__init__(network, name, observation_size)
        self.state_size: int = network.state_size  # type: ignore[assignment]  # nn.Module types it as one of its parts

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor; every observation is the first one of an episode. `advance` goes on from it."""
        loc, scale, _ = self.advance(observation, observation.new_zeros(*observation.shape[:-1], self.state_size))
        return loc, scale

    def advance(self, observation: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One time step, to play the policy outside of training.

        Args:
            observation: raw observations, (..., D).
            state: zeros in the first step of an episode, then the state that the step before has given, (..., S).

        Returns:
            Mean loc and standard deviation scale of the actions, both (..., A), and the new state, (..., S).
        """
        loc, scale, new_state = self.run(observation, state)
        return loc, scale, new_state

    def step(self, theta: Tensor, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See Actor."""
        loc, scale, new_state = self._with(theta)(features, state)
        return loc, scale, new_state

    def stacked(self, theta: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor; `features` are whole episodes, (tasks, envs, time, D + 1)."""
        run, state = self._with(theta), features.new_zeros(*features.shape[:2], self.state_size)
        steps = []
        for x in features.unbind(dim=2):
            loc, scale, state = run(x[..., :-1], state.masked_fill(x[..., -1:] > 0, 0.0))
            steps.append((loc, scale))
        loc, scale = (torch.stack(part, dim=2).flatten(1, 2) for part in zip(*steps, strict=True))
        return loc, scale

    @torch.no_grad()
    def mean_std(self, features: Tensor) -> Tensor:
        """See Actor."""
        return self.stacked(self.vector().expand(len(features), -1), features)[1].mean()


def make_own_actor(
    path: str, observation_size: int, action_size: int, *, options: Mapping[str, Any], seed: int
) -> OwnActor:
    """The actor whose network MODULE:CLASS(observation_size, action_size, **options) is.

    Args:
        path: MODULE:CLASS.
        observation_size: D.
        action_size: A.
        options: further arguments.
        seed: of the first weights, which may be drawn from torch's global random numbers.

    Raises:
        UserError: it cannot be made, or cannot be used as an actor.
    """
    make = import_maker("policy.actor", path, nn.Module)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = make(observation_size, action_size, **options)
            if not isinstance(network, nn.Module):
                raise TypeError(f"it gives {type(network).__name__}, which is no nn.Module")
            kind = RecurrentActor if hasattr(network, "state_size") else OwnActor
            actor = kind(network, path, observation_size)
            fault = _find_fault(actor, torch.randn(5, observation_size), action_size)
    except Exception as error:  # noqa: BLE001  (the user's network may raise anything)
        raise UserError(f"policy.actor is {path!r}, which cannot be used: {told(error)}.") from None
    if fault:
        raise UserError(f"policy.actor is {path!r}, but {fault}.")
    return actor


def _find_fault(actor: OwnActor, x: Tensor, action_size: int) -> str | None:
    """What is wrong with the network, for some observations (samples, D); None if nothing is."""
    if not list(actor.parameters()) or any(p.dtype != torch.float32 for p in actor.parameters()):
        return "it has no parameters, or has some that are not of 32 bits"
    if isinstance(actor, RecurrentActor):
        size: object = actor.state_size
        if not (isinstance(size, int) and size > 0):
            return f"its state_size is {size!r}, but must be a whole number above 0"
        if name := _find_layer(actor.network, nn.RNNBase):
            return f"it has a layer {name}, which runs whole sequences: take nn.{name}Cell, one time step"
        return _find_wrong_result(actor, action_size, x, torch.randn(len(x), size))
    if name := _find_layer(actor.network, nn.RNNBase, nn.RNNCellBase):
        return (
            f"it has a recurrent layer, {name}, and no attribute state_size: give it one, the length of its state, and "
            "a forward(features, state) of one time step -> (means, standard deviations, new state)"
        )
    return _find_wrong_result(actor, action_size, x)


def _find_layer(network: nn.Module, *kinds: type[nn.Module]) -> str | None:
    """The name of the first layer's class that is of these kinds; None if there is no such layer."""
    return next((type(module).__name__ for module in network.modules() if isinstance(module, kinds)), None)


@torch.no_grad()
def _find_wrong_result(actor: OwnActor, action_size: int, x: Tensor, *state: Tensor) -> str | None:
    """The same of what the network gives, for states (samples, S) as well if it reads one."""
    given, shape = actor.network(x, *state), (len(x), action_size)
    shapes = [part.shape for part in given if isinstance(part, Tensor)] if isinstance(given, tuple) else []
    if shapes not in [[shape, scale, *(old.shape for old in state)] for scale in (shape, shape[1:])]:
        wanted = f"{'triple' if state else 'pair'}, the actions' means, here {shape}, and their standard deviations"
        more = "".join(f", and the new state, here {tuple(old.shape)}" for old in state)
        return f"its forward must give a {wanted}{more}"
    loc, scale, *new_state = given
    whole = torch.cat([loc, scale.expand_as(loc), *new_state], dim=1)
    if not (whole.isfinite().all() and (scale > 0).all()):
        return "what it gives is not finite, or its standard deviations are not positive"
    rows = zip(x, *state, strict=True)  # each is run as [tasks, envs], as in rollouts
    alone = torch.cat([torch.cat(actor.run(*(part[None, None] for part in row)), dim=2) for row in rows], dim=1)
    if not torch.allclose(alone[0], whole, atol=1e-4):
        return "what it gives for an observation depends on the other observations of the batch, or on chance"
    features = torch.cat([x, torch.zeros(len(x), 1)], dim=1)[None] if state else x  # one world's episode, or samples
    actor.mean_std(features[None])
    actor.stacked(actor.vector().expand(2, -1), features.expand(2, *features.shape))  # torch.vmap says what it cannot
    return None
