"""The figure that training draws, and what all figures share.

A callback uses `plot_learning_curves`, and the figures of the meta-test use the canvas. Both take plain values only.
"""
