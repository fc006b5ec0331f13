"""Task families: where tasks are drawn from, and which environment plays them.

`TaskFamily` and `split_tasks` are for the algorithm's batches, the families for the registry.
"""
