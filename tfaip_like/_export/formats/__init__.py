"""Formats of exported networks besides SavedModel and Keras, one module each, listed in `conversion.FORMATS`."""
