"""The meta-test of runs that have trained: arms, measuring, statistics, tables, figures, a video.

`evaluate_runs` is for the command line.
"""
