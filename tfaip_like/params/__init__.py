"""Typed parameter trees: dataclasses that are flags, files and help at once."""

from tfaip_like.params.base import REQUIRED, FieldError
from tfaip_like.params.params import Params

__all__ = ["REQUIRED", "FieldError", "Params"]
