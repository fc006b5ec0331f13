"""Weights & Biases: the logger, its key, and sweeps."""
