"""What a run leaves on disk and is taken up from: folders, checkpoints, and the way from a command to a run."""
