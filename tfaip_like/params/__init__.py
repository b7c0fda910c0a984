"""Typed parameter trees: dataclasses that are flags, files and help at once."""

from tfaip_like.params.base import FieldError, Params

__all__ = ["FieldError", "Params"]
