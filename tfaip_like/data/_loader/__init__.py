"""The data loader: from a source to batches, in any order, from any step on."""
