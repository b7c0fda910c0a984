"""Classifiers and autoencoders, each in several architectures."""
