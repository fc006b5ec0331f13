"""Training with several processes: how they combine their results, how Lightning starts them, and SLURM.

All code that takes a mean over tasks uses `Ranks`; only `assembly`, the verbs and a callback use the rest.
"""
