"""Runs the command line: `python -m cmaml_pl VERB key=value ...`."""

from cmaml_pl.cli import main

main()
