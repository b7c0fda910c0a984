"""Typed parameter trees: dataclasses that are flags, files and help at once."""

from tfaip_like.params._base import REQUIRED, FieldError
from tfaip_like.params._params import Params

__all__ = ["REQUIRED", "FieldError", "Params"]
