"""The interface of the worlds that the engines step in this process, as one batch; they need only NumPy and MuJoCo."""

from dataclasses import dataclass
from typing import Protocol

from .physics import Array, BatchPhysics, Flags, Worlds

EXCEPTION_COST = 1.0
"""Cost of a step in which the physics failed; Safety-Gymnasium reports the same number as `cost_exception`."""


@dataclass(frozen=True)
class Outcome:
    """The result of one step of all worlds.

    Attributes:
        reward: reward, (W,).
        cost: cost, (W,).
        terminated: whether the episode ended for good, (W,).
        truncated: whether the time limit or failed physics ended the episode, (W,).
        failed: whether the physics failed, (W,).
    """

    reward: Array
    cost: Array
    terminated: Flags
    truncated: Flags
    failed: Flags


class BatchedWorlds(Protocol):
    """Many worlds of one id: what tells one kind of task from another."""

    @property
    def physics(self) -> BatchPhysics:
        """The simulations of the worlds."""

    def seed_stream(self, world: int, seed: int) -> None:
        """Seed the random stream of one world; the original environment draws the same from this seed."""

    def seed_streams(self, seed: int) -> None:
        """Seed the random stream of world i with `seed` + i, as Safety-Gymnasium's vector environment does."""

    def reset(self, worlds: Worlds) -> None:
        """Start new episodes in the given worlds."""

    def step(self, actions: Array) -> Outcome:
        """Step all worlds once; `actions` are (W, A), and may be beyond the action space."""

    def observe(self) -> Array:
        """Observations of all worlds, (W, D)."""

    def named_positions(self) -> dict[str, Array]:
        """Name -> positions, m, (W, things of the kind, 2), of the agent and each kind of thing."""
