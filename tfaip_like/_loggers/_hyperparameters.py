"""Hyperparameters of a run for TensorBoard's HPARAMS plugin.

Without an experiment summary, TensorBoard collects the columns from all runs, and shows those that differ first.
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
from tfaip_like.params._field_rules import UniquePerRun, find_rule
from tfaip_like.params._formatting import format_value
from tfaip_like.params._tree import iter_leaves
from tfaip_like.params._types import params_classes

HParamValue = bool | float | str


def collect_hyperparameters(tree: ParamsBase) -> dict[str, HParamValue]:
    """Return the parameters of a tree by flag name: numbers and booleans, and all other values as strings.

    Groups with a fixed class are omitted, and non-finite numbers, which the plugin does not support.
    """
    values: dict[str, HParamValue] = {}
    for leaf in iter_leaves(tree):
        name, value = leaf.flag.removeprefix("--"), leaf.value
        is_choice = params_classes(leaf.type) != (type(value),)
        is_finite = not isinstance(value, float) or math.isfinite(value)
        if is_choice and is_finite and find_rule(tree, leaf.path, UniquePerRun) is None:
            text = "none" if isinstance(value, (list, tuple, dict)) and not value else format_value(leaf.type, value)
            values[name] = value if isinstance(value, (bool, int, float)) else text
    return values


def make_session_start(parameters: Mapping[str, HParamValue], seconds: float) -> SummaryProto:
    """Return the start of a run.

    Args:
        parameters: Hyperparameters by flag name.
        seconds: Time in seconds since the epoch (1970).
    """
    start = SessionStartInfo(start_time_secs=seconds)
    for name, value in parameters.items():
        kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        setattr(start.hparams[name], kind, value)
    return _make_hparams_proto(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def make_session_end(is_success: bool, seconds: float) -> SummaryProto:
    """Return the end of a run that will not be resumed.

    Args:
        is_success: Whether the training is complete.
        seconds: Time in seconds since the epoch (1970).
    """
    status = STATUS_SUCCESS if is_success else STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=seconds)
    return _make_hparams_proto(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _make_hparams_proto(tag: str, data: Any) -> SummaryProto:
    return SummaryProto(value=[SummaryProto.Value(tag=tag, metadata=create_summary_metadata(data), tensor=NULL_TENSOR)])
