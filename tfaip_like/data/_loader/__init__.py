"""Data loader: from a source to batches, in any order, starting at any step."""
