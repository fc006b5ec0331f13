"""Pure functions of tensors: no Lightning, no OmegaConf, no class that holds a network.

All modules may use them.
"""
