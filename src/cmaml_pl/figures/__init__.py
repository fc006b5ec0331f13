"""Figures that training draws, and what every figure shares.

`plot_learning_curves` is for a callback, the canvas for the figures of the meta-test; only plain values come in.
"""
