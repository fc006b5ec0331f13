"""The batched navigation engine: many Safety-Gymnasium worlds at once, nearly as fast as their physics alone."""

from cmaml_pl.envs.navigation.definition import UnsupportedTaskError
from cmaml_pl.envs.navigation.env import NavigationEnv

__all__ = ["NavigationEnv", "UnsupportedTaskError"]
