"""C-MAML: constrained model-agnostic meta reinforcement learning, as a modular trainer."""

from importlib.metadata import version

__version__ = version("cmaml_pl")
