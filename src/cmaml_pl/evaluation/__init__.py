"""The meta-test: what it measures, its statistics, figures and video."""
