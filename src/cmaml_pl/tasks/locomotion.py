"""The common base of the families of robots on legs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.locomotion_rules import COSTS, Rules
from cmaml_pl.tasks.base import RangedFamily

if TYPE_CHECKING:
    from cmaml_pl.envs.locomotion import LocomotionEnv


@dataclass(frozen=True, kw_only=True)
class LocomotionFamily(RangedFamily):
    """A family on the body of one of Safety-Gymnasium's velocity tasks.

    Attributes:
        env_id: Safety-Gymnasium id.
        control_weight: weight of the squared actions in the reward; null for the body's own.
        cost: "velocity", "control" or "height", see Rules.
        cost_weight: of the cost "control".
        lowest_head: of the cost "height", m.
    """

    env_id: str = "SafetyHalfCheetahVelocity-v1"
    control_weight: float | None = bounded(None, low=0)
    cost: str = bounded("velocity", choices=COSTS)
    cost_weight: float = bounded(Rules.cost_weight, low=0)
    lowest_head: float = bounded(Rules.lowest_head, above=0)

    reward: ClassVar[str] = "forward"

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> "LocomotionEnv":
        """See TaskFamily."""
        from cmaml_pl.envs.locomotion import LocomotionEnv  # imported here, as in NavigationFamily

        rules = Rules(self.reward, self.control_weight, self.cost, self.cost_weight, self.lowest_head)
        return LocomotionEnv(
            self.env_id, num_tasks, num_envs, num_threads=workers, horizon=horizon, reveal=self.reveal, rules=rules
        )
