"""A zoo of networks: classifiers and autoencoders, each in several architectures."""
