"""The outer update: meta-gradients, the safety term, and how far a meta-step may go.

`OuterMethod`, `safety_gradient`, `safety_weight` and `limit_step` are for the algorithm.
"""
