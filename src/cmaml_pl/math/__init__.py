"""Pure functions of tensors: no Lightning, no OmegaConf, no class that holds a network.

All of it is for everyone.
"""
