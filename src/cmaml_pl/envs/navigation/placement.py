"""Where the things of a world are placed: the numbers that Safety-Gymnasium's RandomGenerator draws, faster."""

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

_LAYOUT_TRIES, _THING_TRIES, _GOAL_TRIES = 10_000, 100, 10_000  # those of safety_gymnasium
_SINGLE_TRIES, _BLOCK_TRIES = 4, 96
"""Points that are tried one by one, which mostly is enough, and then at once: a crowded layout takes thousands."""


class _Draws:
    """The uniform numbers that a legacy generator will draw next, looked at before they are drawn.

    Args:
        rng: left by `settle` where it would be if the numbers that were used had been drawn from it, and no others.
    """

    def __init__(self, rng: np.random.RandomState) -> None:
        self._rng, self._start = rng, rng.get_state(legacy=False)
        self._numbers, self._used = rng.random_sample(256), 0
        self._before = 0  # numbers that were used and dropped

    def peek(self, count: int) -> NDArray[np.float64]:
        """The next numbers, (count,)."""
        if len(self._numbers) - self._used < count:
            self._numbers = np.concatenate([self._numbers[self._used :], self._rng.random_sample(4096)])
            self._before, self._used = self._before + self._used, 0
        return self._numbers[self._used : self._used + count]

    def use(self, count: int) -> None:
        """Go on behind the next `count` numbers."""
        self._used += count

    def settle(self) -> None:
        """Draw from the generator what was used."""
        self._rng.set_state(self._start)
        self._rng.random_sample(self._before + self._used)


@dataclass(frozen=True)
class _Place:
    """Where a thing may be: rectangles with the cumulated shares of their areas, and the distance to keep.

    A point is made of `numbers` uniform numbers, of which the first of three chooses among several rectangles.
    """

    rectangles: tuple[Rectangle, ...]
    shares: tuple[float, ...]
    keepout: float
    numbers: int

    def point(self, numbers: Sequence[float]) -> Point:
        """What RandomGenerator.draw_placement makes of `self.numbers` uniform numbers."""
        # RandomState.choice draws one number, RandomState.uniform is low + (high - low) * number
        x_min, y_min, x_max, y_max = self.rectangles[bisect_right(self.shares, numbers[0]) if self.numbers == 3 else 0]
        return x_min + (x_max - x_min) * numbers[-2], y_min + (y_max - y_min) * numbers[-1]

    def points(self, numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same for many points at once: x and y, (n,) each, of (n * self.numbers,)."""
        rows = numbers.reshape(-1, self.numbers)
        chosen = np.searchsorted(self.shares, rows[:, 0], side="right") if self.numbers == 3 else 0
        x_min, y_min, x_max, y_max = np.array(self.rectangles)[chosen].T
        return x_min + (x_max - x_min) * rows[:, -2], y_min + (y_max - y_min) * rows[:, -1]


class Placer:
    """Samples layouts and goals.

    Every draw is made in the order of safety_gymnasium.utils.random_generator, from the same legacy generator: the same
    seed gives the same layout and the same goals after it.

    Args:
        conf: the task's `placements_conf`, with its placements built.
    """

    def __init__(self, conf: Any) -> None:
        self._margin = float(conf.margin)
        self._places = [
            _place(rectangles or [conf.extents], float(keepout)) for rectangles, keepout in conf.placements.values()
        ]
        self._goal = list(conf.placements).index("goal") if "goal" in conf.placements else None

    def layout(self, rng: np.random.RandomState) -> list[Point] | None:
        """One point for each thing, none too near to another; None if that fails too often."""
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
        """A new goal, away from where the other things of `layout` are; None if that fails too often."""
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
        """A point of `place` away from `layout`, whose things may be in `places`; None after `tries` points."""
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
