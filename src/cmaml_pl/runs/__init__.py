"""What a run leaves on disk and is taken up from: folders, checkpoints, the way from a command to a run.

`RunFolder`, `load_checkpoint`, `restore`, `open_run` and `prepare_run` are for the verbs.
"""
