"""C-MAML: constrained model-agnostic meta reinforcement learning, as a modular trainer."""

from importlib.metadata import version

try:
    __version__ = version("cmaml_pl")
except Exception:
    __version__ = "0"
