"""Adaptation methods: one safe step from a policy and its rollouts to the next policy, for many tasks at once.

Outer methods and the algorithm use `InnerMethod`, `InnerStep` and the functions of `inner.base`.
"""
