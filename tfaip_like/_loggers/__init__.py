"""Loggers: what a training writes for other programs to show."""
