"""Selection of the best epoch, and what depends on it."""
