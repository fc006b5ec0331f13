"""The networks: the actors' interface and the usual actor, value networks and the observation normaliser."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Self

import torch
from torch import Tensor, nn

from cmaml_pl.distributed.ranks import ALONE, Ranks


def build_mlp(sizes: Sequence[int], *, output_gain: float, generator: torch.Generator) -> nn.Sequential:
    """Linear layers of `sizes` with tanh between them, orthogonal weights and zero biases.

    The gain of the weights is sqrt 2, and `output_gain` for the last layer.
    """
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # its own initialisation would draw global numbers
        last = i == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, output_gain if last else 2.0**0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


class ObservationNormaliser(nn.Module):
    """Normalises observations by the running mean and variance of those that the meta-policy has seen.

    It is part of the policy: it is saved and exported with it.

    Args:
        size: D, length of an observation.
        clip: normalised observations are clipped to [-clip, clip].
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, size: int, clip: float = 10.0) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))

    def forward(self, observation: Tensor) -> Tensor:
        """Normalised observations, (..., D) -> (..., D)."""
        mean, scale = self.mean.to(observation), (self.variance + 1e-8).sqrt().to(observation)
        return ((observation - mean) / scale).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, observation: Tensor, ranks: Ranks = ALONE) -> None:
        """Add the batches of all ranks, (..., D) each, to mean and variance (Chan, Golub & LeVeque 1983, eq. 2.1)."""
        n, mean, variance = ranks.moments(observation.flatten(0, -2).double())
        total, delta = self.count + n, mean - self.mean
        squares = self.variance * self.count + variance * n + delta**2 * self.count * n / total
        self.mean += delta * (n / total)
        self.variance.copy_(squares / total)
        self.count.copy_(total)


PARTS = ("all", "context", "head", "mean")
"""Parts of an actor's parameters: all, the context, the last layer, or all but log_std."""


class Actor(nn.Module, ABC):
    """pi(a|s) = N(loc(s), diag scale(s)^2): what adaptation, meta-update and rollouts need of a policy.

    Adaptation changes one flat vector theta of length P, all parameters. The vectors of many tasks are stacked to
    (tasks, P) and run in one batched pass.

    Attributes:
        normaliser: of the observations, saved with the policy; it has no parameters.
        log_std_slice: the entries of theta that are exploration noise alone; empty if there are none.
        state_size: S, length of what the policy remembers within an episode; 0 if it acts on each observation alone.
    """

    normaliser: ObservationNormaliser
    state_size: int = 0

    @abstractmethod
    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loc and standard deviation scale of the actions, both (..., A), for raw observations (..., D)."""

    @abstractmethod
    def stacked(self, theta: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Run every task's own parameters on its own data; threads may call it at the same time.

        Args:
            theta: stacked parameters, (tasks, P).
            features: *normalised* observations, (tasks, samples, D). They are the same for every theta, so they are
                computed only once per rollout. For an actor with a context of length C, offsets of the context may
                follow, (tasks, samples, D + C). An actor that remembers reads whole episodes, (tasks, envs, time,
                D + 1), whose last number is 1 where an episode begins, else 0; its samples are envs x time.

        Returns:
            Mean loc and standard deviation scale of the actions, both (tasks, samples, A), twice differentiable.
        """

    def step(self, theta: Tensor, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`stacked` for one time step of all worlds: features (tasks, envs, D), and state and new state of (..., S)."""
        return *self.stacked(theta, features), state

    @abstractmethod
    def mask(self, part: str) -> Tensor | None:
        """1 for the entries of theta that belong to `part` of PARTS, 0 for the others, (P,); None for "all"."""

    @property
    @abstractmethod
    def log_std_slice(self) -> slice:
        """See the class."""

    @abstractmethod
    def mean_std(self, features: Tensor) -> Tensor:
        """Mean standard deviation of the actions, scalar, for normalised observations (..., D)."""

    def on_cpu(self) -> Self:
        """This actor where it is on the CPU, otherwise a copy of it there."""
        return self if self.normaliser.mean.device.type == "cpu" else copy.deepcopy(self).cpu()

    def vector(self) -> Tensor:
        """A copy of theta, (P,)."""
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()

    @torch.no_grad()
    def load_vector(self, theta: Tensor) -> None:
        """Overwrite the parameters with theta, (P,)."""
        parameters = list(self.parameters())
        for parameter, piece in zip(parameters, theta.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(piece.view_as(parameter))


class GaussianActor(Actor):
    """pi(a|s) = N(mu(s), diag exp(2 log_std)); theta are the weights and biases of mu, log_std and the context.

    Args:
        observation_size: D.
        action_size: A.
        hidden: widths of the tanh layers.
        init_log_std: first value of every log standard deviation.
        generator: source of the first weights.
        context_size: length of the context, a parameter that the first layer reads beside the observation; 0 for none.
    """

    context: nn.Parameter | None

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        hidden: Sequence[int],
        init_log_std: float,
        generator: torch.Generator,
        context_size: int = 0,
    ) -> None:
        super().__init__()
        self.normaliser = ObservationNormaliser(observation_size)
        self.register_parameter("context", nn.Parameter(torch.zeros(context_size)) if context_size else None)
        # a small last layer starts every action near 0 (Andrychowicz et al. 2021, "What matters in on-policy RL")
        self.mean = build_mlp(
            [observation_size + context_size, *hidden, action_size], output_gain=0.01, generator=generator
        )
        self.log_std = nn.Parameter(torch.full((action_size,), init_log_std))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor."""
        x = self.normaliser(observation)
        if self.context is not None:
            x = torch.cat([x, self.context.expand(*x.shape[:-1], -1)], dim=-1)
        loc = self.mean(x)
        return loc, self.log_std.exp().expand_as(loc)

    @property
    def log_std_slice(self) -> slice:
        """The entries of theta that are log_std."""
        return self._slices()["log_std"]

    def _slices(self) -> dict[str, slice]:
        """The entries of theta that belong to each parameter, by name."""
        sizes = [parameter.numel() for parameter in self.parameters()]
        ends = list(accumulate(sizes))
        return {
            name: slice(end - size, end)
            for (name, _), end, size in zip(self.named_parameters(), ends, sizes, strict=True)
        }

    def mask(self, part: str) -> Tensor | None:
        """See Actor."""
        if part == "all":
            return None
        slices, last = self._slices(), f"mean.{len(self.mean) - 1}"
        heads = [f"{last}.weight", f"{last}.bias"]
        names = {"context": ["context"], "head": heads, "mean": [name for name in slices if name != "log_std"]}[part]
        size = sum(parameter.numel() for parameter in self.parameters())
        result = torch.zeros(size, device=self.log_std.device)
        for name in names:
            result[slices[name]] = 1.0
        return result

    @torch.no_grad()
    def folded(self) -> "GaussianActor":
        """The same policy without a context: its part in the first layer becomes part of the bias; else this actor.

        The actions are equal up to rounding, because a sum is taken in another order.
        """
        if self.context is None:
            return self
        layers = [layer for layer in self.mean if isinstance(layer, nn.Linear)]
        *hidden, actions = [layer.out_features for layer in layers]
        size, first = self.normaliser.mean.numel(), layers[0]
        result = GaussianActor(size, actions, hidden=hidden, init_log_std=0.0, generator=torch.Generator())
        state = {name: value for name, value in self.state_dict().items() if name != "context"}
        state["mean.0.weight"] = first.weight[:, :size]
        state["mean.0.bias"] = first.bias + first.weight[:, size:] @ self.context
        result.load_state_dict(state)
        return result

    def mean_std(self, features: Tensor) -> Tensor:
        """See Actor; the observations do not matter."""
        return self.log_std.exp().mean()

    def stacked(self, theta: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """See Actor."""
        sizes = [parameter.numel() for parameter in self.parameters()]
        rows = {name: row for (name, _), row in zip(self.named_parameters(), theta.split(sizes, dim=1), strict=True)}
        x = features
        if "context" in rows:
            size = self.normaliser.mean.numel()
            context = rows["context"][:, None].expand(-1, x.shape[1], -1)
            if x.shape[-1] > size:
                context = context + x[..., size:]
            x = torch.cat([x[..., :size], context], dim=-1)
        for name, layer in self.mean.named_children():
            if isinstance(layer, nn.Linear):
                weight = rows[f"mean.{name}.weight"].unflatten(1, layer.weight.shape)
                x = torch.baddbmm(rows[f"mean.{name}.bias"][:, None], x, weight.mT)
            else:
                x = layer(x)
        return x, rows["log_std"].exp()[:, None].expand_as(x)


class NoValue(nn.Module):
    """V(s) = 0, (..., D) -> (..., 1): stands for a shared critic if each task uses only a critic of its own."""

    def forward(self, features: Tensor) -> Tensor:
        """Zeros, (..., D) -> (..., 1)."""
        return torch.zeros_like(features[..., :1])


class ValueNetwork(nn.Module):
    """V(s) of normalised observations, (..., D) -> (..., 1); one network for all tasks.

    Args:
        observation_size: D.
        hidden: widths of the tanh layers.
        generator: source of the first weights.
    """

    def __init__(self, observation_size: int, *, hidden: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.body = build_mlp([observation_size, *hidden, 1], output_gain=1.0, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """Values of normalised observations, (..., D) -> (..., 1)."""
        value: Tensor = self.body(features)
        return value
