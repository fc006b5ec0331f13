"""Weights & Biases (W&B): the logger, the key, and sweeps.

Callbacks use `find_wandb_logger`; the verbs and `assembly` use the rest.
"""
