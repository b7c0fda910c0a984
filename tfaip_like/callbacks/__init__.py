"""Callbacks: user code that runs at points of a training."""

from tfaip_like.callbacks._callback import Callback
from tfaip_like.callbacks._context import RunContext

__all__ = ["Callback", "RunContext"]
