"""Weights to start from, and layers that keep theirs."""
