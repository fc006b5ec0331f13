"""How far the navigation engine and safety_gymnasium agree on one task, and the table of all tasks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from benchmarks.navigation_twins import Array, Both
from numpy.typing import NDArray
from rich.table import Table

TOLERANCE = 1e-6


@dataclass
class Agreement:
    """The result of comparing the engine with safety_gymnasium in one task; counts are over all worlds together.

    Attributes:
        env_id: Safety-Gymnasium id.
        steps: number of compared steps.
        resets: number of automatic resets.
        goals: number of goals reached.
        costs: number of steps with a cost.
        contacts: kind of things -> number of steps in which the agent touched one of them.
        worst: quantity -> largest difference.
        first: place of the first difference above the tolerance; empty if there is none.
        missing: events that should have happened, but did not.
        seconds: duration of the comparison, s.
    """

    env_id: str
    steps: int = 0
    resets: int = 0
    goals: int = 0
    costs: int = 0
    contacts: dict[str, int] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    first: str = ""
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether nothing differs, and every event that should be compared has happened."""
        return not self.first and not self.missing

    def note(self, differences: dict[str, Array], where: str, compared: NDArray[np.bool_]) -> None:
        """Add the differences of a step, (W,) each, in the worlds that are compared; `where` describes the step."""
        for name, values in differences.items():
            values = np.where(compared, values, 0.0)
            self.worst[name] = max(self.worst.get(name, 0.0), float(values.max()))
            if values.max() > TOLERANCE and not self.first:
                self.first = f"{name} of world {values.argmax()} {where}"

    def count(self, both: Both, touched: Sequence[set[str]], compared: NDArray[np.bool_]) -> None:
        """Count the events of a step in the worlds that are compared."""
        self.steps += int(compared.sum())
        self.goals += int((both.reached & compared).sum())
        self.costs += int(((both.cost.original > 0) & compared).sum())
        for world in np.flatnonzero(compared):
            for kind in touched[world]:
                self.contacts[kind] = self.contacts.get(kind, 0) + 1


def exact_table(results: Sequence[Agreement], title: str) -> Table:
    """A table with one row per task."""
    quantities = ("observation", "reward", "cost")
    table = Table(
        title=title,
        caption=f"largest differences (at most {TOLERANCE:g}, none of flags), steps with a cost or in contact, seconds",
    )
    for column in ("task", "steps", *quantities, "resets", "goals", "costly", "in contact with", "s", ""):
        words = column in ("in contact with", "")
        table.add_column(column, justify="left" if words or column == "task" else "right", no_wrap=not words)
    for result in results:
        touched = ", ".join(f"{kind} {count}" for kind, count in sorted(result.contacts.items()))
        verdict = "equal" if result.agrees else result.first or f"without {' and '.join(result.missing)}"
        worst = (f"{result.worst.get(name, math.inf):.1e}" for name in quantities)
        happened = (result.resets, result.goals, result.costs)
        table.add_row(
            result.env_id, str(result.steps), *worst, *map(str, happened), touched, f"{result.seconds:.0f}", verdict
        )
    return table
