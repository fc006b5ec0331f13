"""The meta-test of trained runs on held-out tasks: arms, measurements, statistics, tables, figures and a video.

The command line calls `evaluate_runs`.
"""
