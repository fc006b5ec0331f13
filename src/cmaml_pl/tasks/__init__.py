"""Tasks and the families that they are drawn from."""
