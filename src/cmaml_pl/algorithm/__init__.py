"""C-MAML itself: the LightningModule, its inner loop, its batches of tasks, the record of a meta-iteration.

`CMAML`, `TaskDataModule`, `MetaIteration` and `Stage` are for the callbacks and for what composes.
"""
