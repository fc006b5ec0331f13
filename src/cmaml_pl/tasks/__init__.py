"""Task families: each draws tasks and makes the environment that runs them.

The algorithm's batches use `TaskFamily` and `split_tasks`; the registry lists the families.
"""
