"""Typed parameter trees: dataclasses that define flags, parameter files and help texts."""

from tfaip_like.params._base import REQUIRED, FieldError
from tfaip_like.params._params import Params
from tfaip_like.params._renamed import Renamed

__all__ = ["REQUIRED", "FieldError", "Params", "Renamed"]
