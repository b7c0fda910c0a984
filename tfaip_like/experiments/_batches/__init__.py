"""Batches on disk: their folder, their runs and the code they use."""
