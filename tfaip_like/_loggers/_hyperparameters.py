"""A run as a row of TensorBoard's page HPARAMS: its parameters, and what it reached.

The run does not say which columns the page has: TensorBoard then collects them from all runs, and
shows those first in which they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary as SummaryProto
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.metadata import (
    NULL_TENSOR,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from tfaip_like.params._base import ParamsBase
from tfaip_like.params._formatting import format_value
from tfaip_like.params._tree import iter_leaves
from tfaip_like.params._types import params_classes

EXCLUDED_PARAMS = ("trainer.output_dir",)
"""Differs in every run and is the name of its row."""

HParamValue = bool | float | str


def collect_hyperparameters(tree: ParamsBase) -> dict[str, HParamValue]:
    """The parameters of a tree by the names of their flags: numbers, true or false, all else in words.

    Groups that are always of one class are left out, and infinity, which the page cannot show.
    """
    values: dict[str, HParamValue] = {}
    for leaf in iter_leaves(tree):
        name, value = leaf.flag.removeprefix("--"), leaf.value
        is_choice = params_classes(leaf.type) != (type(value),)
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if is_choice and is_finite and name not in EXCLUDED_PARAMS:
            words = "none" if isinstance(value, (list, tuple, dict)) and not value else format_value(leaf.type, value)
            values[name] = value if isinstance(value, (bool, int, float)) else words
    return values


def make_session_start(parameters: Mapping[str, HParamValue], seconds: float) -> SummaryProto:
    """The beginning of a run, at a time since 1970."""
    start = SessionStartInfo(start_time_secs=seconds)
    for name, value in parameters.items():
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(start.hparams[name], kind, value)
    return _make_hparams_proto(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def make_session_end(is_success: bool, seconds: float) -> SummaryProto:
    """The end of a run that nobody will go on with, at a time since 1970."""
    status = STATUS_SUCCESS if is_success else STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=seconds)
    return _make_hparams_proto(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _make_hparams_proto(tag: str, data: Any) -> SummaryProto:
    return SummaryProto(value=[SummaryProto.Value(tag=tag, metadata=create_summary_metadata(data), tensor=NULL_TENSOR)])
