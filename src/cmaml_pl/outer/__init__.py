"""The outer update: meta-gradients, the safety term, and how far a meta-step may go."""
