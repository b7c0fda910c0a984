"""Run directories: their layout, their lock, what they record, and the one reader of them."""
