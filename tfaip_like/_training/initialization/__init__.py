"""Initial weights (warm start) and frozen layers."""
