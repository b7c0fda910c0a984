"""Estimates of the time, memory and disk space of runs."""
