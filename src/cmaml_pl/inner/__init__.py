"""Adaptation methods: one safe step from a policy and its rollouts to the next policy, for many tasks at once.

`InnerMethod`, `InnerStep` and the functions of `inner.base` are for outer methods and the algorithm.
"""
