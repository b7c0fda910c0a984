"""Exports: how they are written and checked, what they hold, and how they are loaded."""
