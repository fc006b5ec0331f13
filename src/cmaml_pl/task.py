"""The task: one constrained MDP drawn from a family."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One constrained MDP p ~ T, complete enough to be built again anywhere.

    Attributes:
        family: registry name of the family it was drawn from.
        id: number of the task within its family; splits are disjoint ranges of ids.
        layout_seed: seed from which the environment places its objects, kept on every reset.
        cost_limit: d^p, undiscounted cost per episode.
        parameters: whatever else tells this task from its siblings, by name (unit in the family's docstring).
        limit_share: `cost_limit` as a share of the configuration's limit, where tasks have limits of their own.
    """

    family: str
    id: int
    layout_seed: int
    cost_limit: float
    parameters: Mapping[str, float] = field(default_factory=dict)
    limit_share: float = 1.0
