"""The outer update: meta-gradients, the safety term, and how far a meta-step may go.

The algorithm uses `OuterMethod`, `safety_gradient`, `safety_weight` and `limit_step`.
"""
