"""Weights & Biases: the logger, its key, and sweeps.

`find_wandb_logger` is for callbacks, the rest for the verbs and the composition.
"""
