"""Networks: the actor with its observation normaliser, and the value networks.

All modules may use them; higher modules fit them.
"""
