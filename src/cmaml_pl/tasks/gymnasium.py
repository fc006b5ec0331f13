"""The family of a Gymnasium environment of one's own, whose tasks differ in some of its parameters."""

from dataclasses import dataclass

from cmaml_pl.bounds import bounded
from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.tasks.parameters import ParametersFamily


@dataclass(frozen=True, kw_only=True)
class GymnasiumFamily(ParametersFamily):
    """Any Gymnasium environment with vectors of observations and actions; each task has its own parameters of it.

    Attributes:
        env_id: Gymnasium id; MODULE:ID imports the module first, which registers the id.
        given_as: "attributes", which are set before each reset, or "keywords" of the constructor.
        cost: key of a step's info that holds its cost, or MODULE:FUNCTION, a function (observation, action, reward,
            info) -> cost; null if nothing costs.
    """

    family: str = "gymnasium"
    env_id: str = "Pendulum-v1"
    given_as: str = bounded("attributes", choices=("attributes", "keywords"))
    cost: str | None = None

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        from cmaml_pl.envs.gymnasium_env import GymnasiumEnv  # imported here, because other families do not need it

        return GymnasiumEnv(
            self.env_id,
            num_tasks,
            num_envs,
            horizon=horizon,
            num_workers=workers,
            reveal=self.reveal,
            options=self.first_options() if self.given_as == "keywords" else self.options,
            given_as=self.given_as,
            cost=self.cost,
        )
