"""Validation of the network in memory and of its export."""
