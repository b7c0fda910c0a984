"""Data: sources, samples, processors, loader settings and writers."""

from typing import TYPE_CHECKING

from tfaip_like._utils.lazy_imports import import_on_use
from tfaip_like._utils.remote_paths import to_path
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
from tfaip_like.data._sources.tables.table_format import TableFormat
from tfaip_like.data._tokenizers import HuggingFaceTokenizer, SentencePieceTokenizer, Tokenizer
from tfaip_like.data._writers import JsonLines, Npz, Writer

if TYPE_CHECKING:
    from tfaip_like.data._sources.shards.array_records import ArrayRecordSource
    from tfaip_like.data._sources.shards.parquet import ParquetSource
    from tfaip_like.data._sources.shards.webdataset import WebDatasetSource
    from tfaip_like.data._sources.tables.categories import find_categories
    from tfaip_like.data._sources.tables.columns import IsMissing
    from tfaip_like.data._sources.tables.files import column_names
    from tfaip_like.data._sources.tables.source import TableSource
    from tfaip_like.data._standalone import process_samples
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "ArrayRecordSource": "tfaip_like.data._sources.shards.array_records",
            "IsMissing": "tfaip_like.data._sources.tables.columns",
            "ParquetSource": "tfaip_like.data._sources.shards.parquet",
            "TableSource": "tfaip_like.data._sources.tables.source",
            "WebDatasetSource": "tfaip_like.data._sources.shards.webdataset",
            "column_names": "tfaip_like.data._sources.tables.files",
            "find_categories": "tfaip_like.data._sources.tables.categories",
            "process_samples": "tfaip_like.data._standalone",
        },
    )

__all__ = [
    "AddClassName",
    "ArrayRecordSource",
    "ArraySource",
    "ArraySpec",
    "Arrays",
    "BaseLoaderSettings",
    "Data",
    "DropSample",
    "Filter",
    "HuggingFaceTokenizer",
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
    "ParquetSource",
    "Pipeline",
    "PredictLoaderSettings",
    "Processor",
    "RangeFilter",
    "Resample",
    "Sample",
    "SentencePieceTokenizer",
    "Source",
    "Spec",
    "StreamProcessor",
    "TableFormat",
    "TableSource",
    "Tokenizer",
    "TrainLoaderSettings",
    "Uniform",
    "ValLoaderSettings",
    "ValueFilter",
    "WebDatasetSource",
    "Writer",
    "class_folders",
    "column_names",
    "find_categories",
    "find_files",
    "image_size",
    "process_samples",
    "read_image",
    "to_path",
]
