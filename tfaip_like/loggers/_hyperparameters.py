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

from tfaip_like.loggers._logger import ParamValue


def make_session_start(parameters: Mapping[str, ParamValue], seconds: float) -> SummaryProto:
    """Return the start of a run.

    Args:
        parameters: Hyperparameters by flag name; non-finite numbers are omitted, which the plugin does not support.
        seconds: Time in seconds since the epoch (1970).
    """
    start = SessionStartInfo(start_time_secs=seconds)
    for name, value in parameters.items():
        if isinstance(value, float) and not math.isfinite(value):
            continue
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
