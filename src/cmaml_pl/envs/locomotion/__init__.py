"""Safety-Gymnasium's velocity tasks on the batched engine: legged and swimming robots with a limit on their speed."""

from cmaml_pl.envs.locomotion.env import LocomotionEnv

__all__ = ["LocomotionEnv"]
