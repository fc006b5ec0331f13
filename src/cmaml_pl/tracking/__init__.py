"""Weights & Biases (W&B): the logger, the key, and sweeps; and further loggers.

Callbacks use `find_wandb_logger`; the verbs and `assembly` use the rest.
"""
