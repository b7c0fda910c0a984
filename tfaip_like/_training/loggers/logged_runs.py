"""Record of what the loggers of a run have logged: `loggers.json`.

A run that is resumed continues in the same run of each service. What was logged is recorded when it is logged, and not
in checkpoints: a training that was killed resumes before epochs that are logged already.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.json_files import format_json
from tfaip_like._utils.typed_json import Count
from tfaip_like.loggers import Logger, ParamValue
from tfaip_like.params._base import field_types

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggerRecord:
    """What a logger has logged."""

    settings: dict[str, Any]
    """Parameters of the logger, by which it is recognised."""
    parameters: dict[str, str]
    """Hyperparameters of the training."""
    state: dict[str, Any] = field(default_factory=dict)
    """State of the logger, such as the ID of its run."""
    step: Count = 0
    """Last step that is logged."""

    def has_parameters(self, parameters: Mapping[str, ParamValue]) -> bool:
        """Return whether no hyperparameter has changed; one that only another version has, has not."""
        return all(str(parameters[name]) == value for name, value in self.parameters.items() if name in parameters)


@dataclass(frozen=True)
class _Contents:
    """Contents of `loggers.json`."""

    loggers: list[LoggerRecord] = field(default_factory=list)


LOGGERS_FORMAT = FileFormat("loggers.json", _Contents)


class LoggedRuns:
    """Records of all loggers of a run; threads may change them.

    Args:
        output_dir: run directory; None saves nothing.
    """

    def __init__(self, output_dir: OutputDir | None):
        self._output_dir = output_dir
        self._lock = threading.Lock()
        self._records = self._read()
        self._previous = dict(enumerate(self._records))

    def _read(self) -> list[LoggerRecord]:
        if self._output_dir is None or not self._output_dir.loggers.exists():
            return []
        try:
            return LOGGERS_FORMAT.read(self._output_dir.loggers).loggers
        except UsageError as problem:
            logger.warning("%s; loggers begin new runs", problem)
            return []

    def open(self, configured: Logger, parameters: Mapping[str, ParamValue]) -> tuple[int, LoggerRecord | None]:
        """Begin the record of a logger; return its number, and the record of the previous start, None if it is new.

        Args:
            configured: logger.
            parameters: current hyperparameters.
        """
        settings = {name: value for name, value in configured.to_dict().items() if name not in field_types(Logger)}
        new = LoggerRecord(settings, {name: str(value) for name, value in parameters.items()})
        for number, previous in self._previous.items():
            if format_json(previous.settings) == format_json(settings):
                del self._previous[number]
                self._records[number] = new
                return number, previous
        self._records.append(new)
        return len(self._records) - 1, None

    def update(self, number: int, **changes: Any) -> None:
        """Change a record, and write the file.

        Args:
            number: number of the record.
            changes: values of fields.
        """
        with self._lock:
            self._records[number] = dataclasses.replace(self._records[number], **changes)
            if self._output_dir is not None:
                LOGGERS_FORMAT.write(self._output_dir.loggers, _Contents(self._records))
