"""Experience: TorchRL collectors, and what the updates read from their rollouts.

`Rollouts`, `TaskData` and `AdvantageEstimator` are for the methods and the algorithm.
"""
