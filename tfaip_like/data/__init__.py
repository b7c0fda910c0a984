"""Data: sources, samples, processors, loader settings and writers."""

from tfaip_like.data._data import Data, Source
from tfaip_like.data._filters import Filter, RangeFilter, ValueFilter
from tfaip_like.data._image_folders import AddClassName, ImageFolderData
from tfaip_like.data._pipeline import ArraySpec, Pipeline
from tfaip_like.data._processors import DropSample, Processor, StreamProcessor
from tfaip_like.data._resampling import Normal, Resample, Uniform
from tfaip_like.data._sample import Arrays, Mode, Sample, Spec
from tfaip_like.data._settings import (
    BaseLoaderSettings,
    LavLoaderSettings,
    LoaderSettings,
    PredictLoaderSettings,
    TrainLoaderSettings,
    ValLoaderSettings,
)
from tfaip_like.data._sources.arrays import ArraySource
from tfaip_like.data._sources.file_lists import find_files
from tfaip_like.data._sources.images import ImageFiles, ImageFolder, class_folders, image_size, read_image
from tfaip_like.data._sources.mixture import Mixture
from tfaip_like.data._sources.tables import IsMissing, TableFormat, TableSource, column_names, find_categories
from tfaip_like.data._standalone import process_samples
from tfaip_like.data._writers import JsonLines, Npz, Writer

__all__ = [
    "AddClassName",
    "ArraySource",
    "ArraySpec",
    "Arrays",
    "BaseLoaderSettings",
    "Data",
    "DropSample",
    "Filter",
    "ImageFiles",
    "ImageFolder",
    "ImageFolderData",
    "IsMissing",
    "JsonLines",
    "LavLoaderSettings",
    "LoaderSettings",
    "Mixture",
    "Mode",
    "Normal",
    "Npz",
    "Pipeline",
    "PredictLoaderSettings",
    "Processor",
    "RangeFilter",
    "Resample",
    "Sample",
    "Source",
    "Spec",
    "StreamProcessor",
    "TableFormat",
    "TableSource",
    "TrainLoaderSettings",
    "Uniform",
    "ValLoaderSettings",
    "ValueFilter",
    "Writer",
    "class_folders",
    "column_names",
    "find_categories",
    "find_files",
    "image_size",
    "process_samples",
    "read_image",
]
