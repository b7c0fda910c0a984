"""Exports: writing, verification, layout and loading."""
