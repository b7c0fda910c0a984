"""Tools that inspect data, input pipeline and machine without training."""
