"""The scenario template."""
