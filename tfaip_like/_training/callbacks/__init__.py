"""Callbacks in a training: when their hooks run, their state, and what they see."""
