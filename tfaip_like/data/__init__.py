"""Where samples come from and how they become batches."""

from tfaip_like.data.data import Data
from tfaip_like.data.filters import Between, Filter, OneOf
from tfaip_like.data.processors import Processor, StreamProcessor
from tfaip_like.data.resample import Normal, Resample, Uniform
from tfaip_like.data.settings import DataSettings, LavData, TrainData, ValData
from tfaip_like.data.sources.arrays import ArraySource

__all__ = [
    "ArraySource",
    "Between",
    "Data",
    "DataSettings",
    "Filter",
    "LavData",
    "Normal",
    "OneOf",
    "Processor",
    "Resample",
    "StreamProcessor",
    "TrainData",
    "Uniform",
    "ValData",
]
