"""Networks: the actor with its observation normaliser, and the values.

All of them are for everyone; how they are fitted and used stands higher.
"""
