"""Pure functions of tensors: no Lightning, no OmegaConf."""
