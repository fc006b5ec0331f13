"""The task: one constrained MDP drawn from a family."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One constrained MDP p ~ T: everything that an environment needs to build it again.

    Attributes:
        family: registry name of the family that the task was drawn from.
        id: number of the task within its family; the splits (training, validation, test) are disjoint ranges of ids.
        layout_seed: seed from which the environment places its objects; every reset uses it again.
        cost_limit: d^p, cost per episode.
        parameters: name -> value of everything else in which tasks of the family differ; the family's docstring gives
            the units.
    """

    family: str
    id: int
    layout_seed: int
    cost_limit: float
    parameters: Mapping[str, float] = field(default_factory=dict)
    limit_share: float = 1.0
