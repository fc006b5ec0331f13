"""Adaptation methods: one safe step from a policy and its rollouts to the next, for many tasks at once."""
