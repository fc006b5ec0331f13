"""Places the things of a world; it draws the same numbers as Safety-Gymnasium's RandomGenerator, but faster."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]
"""x and y of the lower left corner, x and y of the upper right one, m."""

_LAYOUT_TRIES, _THING_TRIES, _GOAL_TRIES = 10_000, 100, 10_000  # as in safety_gymnasium
_SINGLE_TRIES, _BLOCK_TRIES = 4, 96
"""The first 4 points are tried one by one, which mostly is enough, and then 96 at a time: a crowded layout can take
thousands."""


class _Draws:
    """Gives the uniform numbers that a legacy generator will draw next, without knowing how many will be used.

    Args:
        rng: the generator. After `settle` it is in the state in which drawing exactly the used numbers would leave it.
    """

    def __init__(self, rng: np.random.RandomState) -> None:
        self._rng, self._start = rng, rng.get_state(legacy=False)
        self._numbers, self._used = rng.random_sample(256), 0
        self._before = 0  # count of used numbers that are no longer in _numbers

    def peek(self, count: int) -> NDArray[np.float64]:
        """The next `count` numbers, (count,); they do not count as used yet."""
        if len(self._numbers) - self._used < count:
            self._numbers = np.concatenate([self._numbers[self._used :], self._rng.random_sample(4096)])
            self._before, self._used = self._before + self._used, 0
        return self._numbers[self._used : self._used + count]

    def use(self, count: int) -> None:
        """Mark the next `count` numbers as used."""
        self._used += count

    def settle(self) -> None:
        """Put the generator into the state after drawing the used numbers."""
        self._rng.set_state(self._start)
        self._rng.random_sample(self._before + self._used)


@dataclass(frozen=True)
class _Place:
    """The region in which a thing may be placed: rectangles, the cumulated shares of their areas, and a keepout radius.

    A point is computed from `numbers` uniform numbers: two for one rectangle; three for several rectangles, of which
    the first number chooses one.
    """

    rectangles: tuple[Rectangle, ...]
    shares: tuple[float, ...]
    keepout: float
    numbers: int

    def point(self, numbers: Sequence[float]) -> Point:
        """The point, m, that RandomGenerator.draw_placement computes from `self.numbers` uniform numbers."""
        # RandomState.choice draws one number, RandomState.uniform is low + (high - low) * number
        x_min, y_min, x_max, y_max = self.rectangles[bisect_right(self.shares, numbers[0]) if self.numbers == 3 else 0]
        return x_min + (x_max - x_min) * numbers[-2], y_min + (y_max - y_min) * numbers[-1]

    def points(self, numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same for n points at once: x and y, (n,) each, from uniform numbers (n * self.numbers,)."""
        rows = numbers.reshape(-1, self.numbers)
        chosen = np.searchsorted(self.shares, rows[:, 0], side="right") if self.numbers == 3 else 0
        x_min, y_min, x_max, y_max = np.array(self.rectangles)[chosen].T
        return x_min + (x_max - x_min) * rows[:, -2], y_min + (y_max - y_min) * rows[:, -1]


class Placer:
    """Samples layouts and goals.

    The draws are made in the same order as in safety_gymnasium.utils.random_generator, and from the same legacy
    generator. So the same seed gives the same layout and the same goals after it.

    Args:
        conf: the task's `placements_conf`, whose placements must be built already.
    """

    def __init__(self, conf: Any) -> None:
        self._margin = float(conf.margin)
        self._places = [
            _place(rectangles or [conf.extents], float(keepout)) for rectangles, keepout in conf.placements.values()
        ]
        self._goal = list(conf.placements).index("goal") if "goal" in conf.placements else None

    def layout(self, rng: np.random.RandomState) -> list[Point] | None:
        """One point for each thing, with the required distances between them; None if this fails too often."""
        draws = _Draws(rng)
        found = None
        for _ in range(_LAYOUT_TRIES):
            found = self._try_layout(draws)
            if found is not None:
                break
        draws.settle()
        return found

    def _try_layout(self, draws: _Draws) -> list[Point] | None:
        layout: list[Point] = []
        for place in self._places:
            point = self._free_point(draws, place, layout, self._places, _THING_TRIES)
            if point is None:
                return None
            layout.append(point)
        return layout

    def goal(self, rng: np.random.RandomState, layout: list[Point]) -> Point | None:
        """A new point for the goal, away from the other things of `layout`; None if this fails too often."""
        assert self._goal is not None
        others = layout[: self._goal] + layout[self._goal + 1 :]
        places = self._places[: self._goal] + self._places[self._goal + 1 :]
        draws = _Draws(rng)
        found = self._free_point(draws, self._places[self._goal], others, places, _GOAL_TRIES)
        draws.settle()
        return found

    def _free_point(
        self, draws: _Draws, place: _Place, layout: list[Point], places: list[_Place], tries: int
    ) -> Point | None:
        """A point of `place` that keeps its distance from the points in `layout`; None after `tries` points.

        `places[i]` belongs to `layout[i]` and gives the keepout radius of that thing.
        """
        distances = [other.keepout + self._margin + place.keepout for other in places[: len(layout)]]
        for _ in range(min(tries, _SINGLE_TRIES)):
            x, y = place.point(draws.peek(place.numbers).tolist())
            draws.use(place.numbers)
            for (other_x, other_y), distance in zip(layout, distances, strict=True):
                dx, dy = x - other_x, y - other_y
                if math.sqrt(dx * dx + dy * dy) < distance:
                    break
            else:
                return x, y
        others_x, others_y = np.array(layout).T
        left = tries - _SINGLE_TRIES
        while left > 0:
            count = min(left, _BLOCK_TRIES)
            xs, ys = place.points(draws.peek(count * place.numbers))
            apart_x, apart_y = xs[:, None] - others_x, ys[:, None] - others_y
            free = (np.sqrt(apart_x * apart_x + apart_y * apart_y) >= distances).all(axis=1)
            first = int(free.argmax())
            if free[first]:
                draws.use((first + 1) * place.numbers)
                return float(xs[first]), float(ys[first])
            draws.use(count * place.numbers)
            left -= count
        return None


def _place(rectangles: list[Rectangle], keepout: float) -> _Place:
    shrunk = [(x0 + keepout, y0 + keepout, x1 - keepout, y1 - keepout) for x0, y0, x1, y1 in rectangles]
    usable = [(x0, y0, x1, y1) for x0, y0, x1, y1 in shrunk if x0 <= x1 and y0 <= y1]
    areas = np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in usable])
    if len(usable) == 1:
        return _Place(tuple(usable), (1.0,), keepout, numbers=2)
    shares = (areas / areas.sum()).cumsum()
    return _Place(tuple(usable), tuple(shares / shares[-1]), keepout, numbers=3)
