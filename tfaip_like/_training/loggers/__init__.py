"""Loggers in a training: their threads, what they are given, and what they have logged."""
