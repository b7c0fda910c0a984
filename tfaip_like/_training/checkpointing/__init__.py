"""Checkpoints: what they hold, when they are written, and how they are read."""
