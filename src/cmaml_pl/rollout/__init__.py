"""Experience: TorchRL collectors, and what the updates read from their rollouts."""
