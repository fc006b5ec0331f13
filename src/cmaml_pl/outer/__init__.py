"""The outer update: meta-gradients and the safety term."""
