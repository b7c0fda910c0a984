"""Conversion of scalars and summaries to TensorBoard's protocol buffers, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary as SummaryProto
from tensorboard.plugins.histogram.metadata import create_summary_metadata as histogram_metadata
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.plugins.pr_curve.metadata import create_summary_metadata as pr_curve_metadata
from tensorboard.plugins.text.metadata import create_summary_metadata as text_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from tfaip_like._utils.escaping import escape_lines
from tfaip_like._utils.pixels import read_png_size
from tfaip_like.summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text
from tfaip_like.summaries._summaries import NUM_THRESHOLDS


def to_summary_proto(numbers: Mapping[str, float], summaries: Mapping[str, Summary]) -> SummaryProto:
    """Return the protocol buffer of scalars and summaries, with their names as tags."""
    values = [SummaryProto.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
    return SummaryProto(value=[*values, *(_to_value_proto(tag, summary) for tag, summary in summaries.items())])


def _to_value_proto(tag: str, summary: Summary) -> Any:
    metadata, tensor = _metadata_and_tensor(tag, summary)
    return SummaryProto.Value(tag=tag, metadata=metadata, tensor=tensor)


def _metadata_and_tensor(tag: str, summary: Summary) -> tuple[Any, Any]:
    match summary:
        case Image() | Figure() | ConfusionMatrix():
            file = summary.png()
            width, height = read_png_size(file)
            values = [str(width).encode(), str(height).encode(), file]
            return image_metadata(None, None), make_tensor_proto(np.array(values, object))
        case Text():
            text = escape_lines(summary.markdown).encode()
            return text_metadata(None, None), make_tensor_proto(np.array(text, object))
        case Histogram():
            counts, edges = summary.counts()
            rows = np.stack([edges[:-1], edges[1:], counts], axis=1)  # one row per bin
            return histogram_metadata(None, None), make_tensor_proto(rows)
        case PRCurve():
            rows = np.stack([*summary.counts(), *summary.precision_recall()]).astype(np.float32)  # as its plugin reads
            return pr_curve_metadata(tag, "", NUM_THRESHOLDS), make_tensor_proto(rows)
    raise TypeError(f"{tag}: TensorBoard does not support {type(summary).__name__}")
