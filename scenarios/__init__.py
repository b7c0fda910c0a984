"""Scenarios to use and to learn from."""
