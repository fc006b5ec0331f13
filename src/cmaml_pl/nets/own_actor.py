"""An actor made from any network of a user's own, which gives mean and standard deviation of the actions."""

import copy
from collections.abc import Mapping
from itertools import accumulate
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

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
        features = self.normaliser(observation)
        loc, scale = self.network(features.reshape(-1, features.shape[-1]))
        shape = (*features.shape[:-1], -1)
        return loc.reshape(shape), scale.expand_as(loc).reshape(shape)

    def stacked(self, theta: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor."""
        sizes = [parameter.numel() for parameter in self.network.parameters()]
        rows = {
            name: row.unflatten(1, parameter.shape) if parameter.ndim else row[:, 0]
            for (name, parameter), row in zip(self.network.named_parameters(), theta.split(sizes, dim=1), strict=True)
        }
        # functional_call puts the parameters into the module while it runs, so that each thread needs a module
        if get_ident() not in self._replicas:
            self._replicas[get_ident()] = copy.deepcopy(self.network)
        network = self._replicas[get_ident()]
        buffers = dict(self.network.named_buffers())

        def run(parameters: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            loc, scale = functional_call(network, (parameters, buffers), (x,))
            return loc, scale.expand_as(loc)

        result: tuple[Tensor, Tensor] = torch.vmap(run)(rows, features)
        return result

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
            actor = OwnActor(network, path, observation_size)
            fault = _find_fault(actor, torch.randn(5, observation_size), action_size)
    except Exception as error:  # noqa: BLE001  (the user's network may raise anything)
        raise UserError(f"policy.actor is {path!r}, which cannot be used: {told(error)}.") from None
    if fault:
        raise UserError(f"policy.actor is {path!r}, but {fault}.")
    return actor


@torch.no_grad()
def _find_fault(actor: OwnActor, x: Tensor, action_size: int) -> str | None:
    """What is wrong with the network, for some observations (samples, D); None if nothing is."""
    if not list(actor.parameters()) or any(p.dtype != torch.float32 for p in actor.parameters()):
        return "it has no parameters, or has some that are not of 32 bits"
    for module in actor.network.modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            return (
                f"it has a recurrent layer, {type(module).__name__}, and updates take every step as a sample of its "
                "own: stack the last observations in the environment instead"
            )
    given, shape = actor.network(x), (len(x), action_size)
    pair = isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, Tensor) for part in given)
    if not (pair and given[0].shape == shape and given[1].shape in (shape, shape[1:])):
        return f"its forward must give a pair, the actions' means, here {shape}, and their standard deviations"
    whole = torch.stack([given[0], given[1].expand_as(given[0])])
    if not (whole.isfinite().all() and (whole[1] > 0).all()):
        return "its means are not finite, or its standard deviations are not positive"
    alone = torch.cat([torch.stack(actor(row[None, None])) for row in x], dim=2)  # [tasks, envs], as rollouts are
    if not torch.allclose(alone[:, 0], whole, atol=1e-4):
        return "an observation's action depends on the other observations of the batch, or on chance"
    actor.mean_std(x[None])
    actor.stacked(actor.vector().expand(2, -1), x.expand(2, -1, -1))  # torch.vmap says by itself what it cannot do
    return None
