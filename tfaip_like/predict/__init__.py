"""Exported models: written by a training, used without it."""
