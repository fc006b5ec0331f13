"""The family of a TorchRL environment of one's own, whose tasks differ in some of its parameters."""

from dataclasses import dataclass

from cmaml_pl.envs.base import TaskEnv
from cmaml_pl.errors import UserError
from cmaml_pl.tasks.parameters import ParametersFamily


@dataclass(frozen=True, kw_only=True)
class TorchRLFamily(ParametersFamily):
    """Any single TorchRL environment with vectors of observations and actions; each task has its own parameters of it.

    Attributes:
        make: MODULE:NAME of a class, or of a function with a return annotation, that is called with the task's
            parameters and the options as keywords, and gives an environment with batch size [].
        observation_key: key of the observation, nested by dots.
        cost_key: key of a step's cost beside its reward, nested by dots, or MODULE:FUNCTION, a function step -> cost,
            where `step` is the step's tensordict; null if nothing costs.
    """

    family: str = "torchrl"
    make: str | None = None
    observation_key: str = "observation"
    cost_key: str | None = "cost"

    def make_env(self, num_tasks: int, num_envs: int, *, horizon: int, workers: int | None) -> TaskEnv:
        """See TaskFamily."""
        from cmaml_pl.envs.torchrl_env import TorchRLEnv  # imported here, because other families do not need it

        if self.make is None:
            raise UserError("tasks.make is null: name what makes your environment, tasks.make=MODULE:NAME.")
        return TorchRLEnv(
            self.make,
            num_tasks,
            num_envs,
            horizon=horizon,
            num_workers=workers,
            reveal=self.reveal,
            options=self.first_options(),
            observation_key=self.observation_key,
            cost_key=self.cost_key,
        )
