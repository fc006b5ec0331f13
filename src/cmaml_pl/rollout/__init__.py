"""Experience: TorchRL collectors, and the data that the updates need from their rollouts.

The methods and the algorithm use `Rollouts`, `TaskData` and `AdvantageEstimator`.
"""
