"""Figures that training draws, and what every figure shares; only plain values come in."""
