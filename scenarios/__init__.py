"""Shipped scenarios: ready to train, and examples to start from."""
