"""Validation of the in-memory network and of its export (LAV)."""
