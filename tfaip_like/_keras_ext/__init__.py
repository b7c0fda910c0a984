"""Keras classes that Keras does not have."""
