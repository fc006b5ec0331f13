"""Several processes: what they bring together, how Lightning starts them, what SLURM is told.

`Ranks` is for whoever takes a mean over tasks; `RanksStrategy` and SLURM are for the composition alone.
"""
