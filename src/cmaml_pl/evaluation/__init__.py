"""The meta-test of runs that have trained: arms, measuring, statistics, tables, figures and a video."""
