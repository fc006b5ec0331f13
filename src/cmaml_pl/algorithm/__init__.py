"""C-MAML itself: the LightningModule, its inner loop, its batches of tasks, and the record of a meta-iteration.

The callbacks and `assembly` use `CMAML`, `TaskDataModule`, `MetaIteration` and `Stage`.
"""
