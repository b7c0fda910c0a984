"""Where samples come from and how they become batches."""

from tfaip_like.data.alone import process_samples
from tfaip_like.data.data import Data, Source
from tfaip_like.data.filters import Between, Filter, OneOf
from tfaip_like.data.processors import DropSample, Processor, StreamProcessor
from tfaip_like.data.resample import Normal, Resample, Uniform
from tfaip_like.data.settings import BatchSettings, DataSettings, LavData, PredictData, TrainData, ValData
from tfaip_like.data.sources.arrays import ArraySource
from tfaip_like.data.sources.files import find_files
from tfaip_like.data.sources.images import ImageFiles, ImageFolder, class_folders, image_size, read_image
from tfaip_like.data.sources.mixture import Mixture
from tfaip_like.data.sources.tables import IsMissing, TableFormat, TableSource, column_names, find_categories

__all__ = [
    "ArraySource",
    "BatchSettings",
    "Between",
    "Data",
    "DataSettings",
    "DropSample",
    "Filter",
    "ImageFiles",
    "ImageFolder",
    "IsMissing",
    "LavData",
    "Mixture",
    "Normal",
    "OneOf",
    "PredictData",
    "Processor",
    "Resample",
    "Source",
    "StreamProcessor",
    "TableFormat",
    "TableSource",
    "TrainData",
    "Uniform",
    "ValData",
    "class_folders",
    "column_names",
    "find_categories",
    "find_files",
    "image_size",
    "process_samples",
    "read_image",
]
