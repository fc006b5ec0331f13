"""Several processes: what they bring together, how Lightning starts them, and what SLURM is told."""
