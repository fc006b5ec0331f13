"""A second scale of Safety-Gymnasium's lidars, on which things that are near differ more."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError


def check_near(near: float | None) -> None:
    """Raise a UserError unless `near` is a length above 0, m, or None, which asks for no nearness."""
    if near is not None and not 0 < near < math.inf:
        raise UserError(f"near is {near}, but must be a length above 0, in m, or None.")


class Nearness:
    """Computes exp(-distance / near) for each bin of each lidar, from what the lidars read.

    Args:
        task: Safety-Gymnasium's object of a navigation task.
        near: length, m.

    Attributes:
        size: number of bins of all lidars.
    """

    def __init__(self, task: Any, near: float) -> None:
        parts = task.obs_info.obs_space_dict.spaces
        names = [name for name, space in parts.items() for _ in range(int(np.prod(space.shape)))]
        self._columns = np.array([i for i, name in enumerate(names) if name.endswith("_lidar")], np.intp)
        self._reach, self._near = task.lidar_conf.max_dist, near
        self.size = len(self._columns)

    def of(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The nearness, (..., size), in observations, (..., D); 0 where a bin reads nothing."""
        readings = observation[..., self._columns]  # 1 at no distance, 0 where the lidar's reach ends
        return np.where(readings > 0, np.exp((readings - 1) * self._reach / self._near), 0.0)
