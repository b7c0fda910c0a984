"""Where samples come from and how they become batches."""

from tfaip_like.data.data import Data
from tfaip_like.data.processor import Processor
from tfaip_like.data.source import ArraySource

__all__ = ["ArraySource", "Data", "Processor"]
