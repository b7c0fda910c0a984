"""Checkpoints: contents, schedule, reading and writing."""
