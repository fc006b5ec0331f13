"""The files of a run and how a run starts: folders, checkpoints, and the way from a command to a run.

The verbs use `RunFolder`, `load_checkpoint`, `restore`, `open_run` and `prepare_run`.
"""
