"""Data sources: arrays, images, tables, and combinations of sources."""
