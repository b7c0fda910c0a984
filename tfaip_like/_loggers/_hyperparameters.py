"""A run as a row of TensorBoard's page HPARAMS: its parameters, and what it reached.

The run does not say which columns the page has: TensorBoard then collects them from all runs, and
shows those first in which they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary as Values
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.metadata import (
    NULL_TENSOR,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from tfaip_like.params._base import ParamsBase
from tfaip_like.params._formatting import format_words
from tfaip_like.params._tree import leaves
from tfaip_like.params._types import params_bases

LEFT_OUT = ("trainer.output_dir",)
"""Differs in every run and is the name of its row."""

Plain = bool | float | str


def hyper_parameters(tree: ParamsBase) -> dict[str, Plain]:
    """The parameters of a tree by the names of their flags: numbers, true or false, all else in words.

    Groups that are always of one class are left out, and infinity, which the page cannot show.
    """
    values: dict[str, Plain] = {}
    for leaf in leaves(tree):
        name, value = leaf.flag.removeprefix("--"), leaf.value
        is_choice = params_bases(leaf.type) != (type(value),)
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if is_choice and is_finite and name not in LEFT_OUT:
            words = "none" if isinstance(value, (list, tuple, dict)) and not value else format_words(leaf.type, value)
            values[name] = value if isinstance(value, (bool, int, float)) else words
    return values


def session_start(parameters: Mapping[str, Plain], seconds: float) -> Values:
    """The beginning of a run, at a time since 1970."""
    start = SessionStartInfo(start_time_secs=seconds)
    for name, value in parameters.items():
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(start.hparams[name], kind, value)
    return _values(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def session_end(is_success: bool, seconds: float) -> Values:
    """The end of a run that nobody will go on with, at a time since 1970."""
    status = STATUS_SUCCESS if is_success else STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=seconds)
    return _values(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _values(tag: str, data: Any) -> Values:
    return Values(value=[Values.Value(tag=tag, metadata=create_summary_metadata(data), tensor=NULL_TENSOR)])
