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
from typing import Annotated, Any

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.json_files import format_json
from tfaip_like._utils.typed_json import AtLeast, Count
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
    begin: Annotated[float, AtLeast(0)] = 0.0
    """Epoch at which its run in the service begins: 0, or that at which it branched off another one."""
    parent: dict[str, Any] | None = None
    """State of the logger in that other run."""
    is_started: bool = False
    """Whether the service has the run; it may have been away all the time."""
    state: dict[str, Any] = field(default_factory=dict)
    """State of the logger, such as the ID of its run."""
    step: Count = 0
    """Last step that is logged."""

    def resumed(self, parameters: Mapping[str, ParamValue], epoch: float, branches: bool) -> LoggerRecord:
        """Return the record for a resumed training: of the same run in the service, or of one that branches off it.

        Args:
            parameters: current hyperparameters.
            epoch: epoch from which the training is resumed.
            branches: whether later epochs were trained before.
        """
        record = dataclasses.replace(self, parameters=_format_parameters(parameters))
        if not branches and self._has_parameters(parameters):
            return record
        if not self.is_started:
            return dataclasses.replace(record, begin=min(self.begin, epoch))
        return LoggerRecord(record.settings, record.parameters, begin=epoch, parent=self.state)

    def _has_parameters(self, parameters: Mapping[str, ParamValue]) -> bool:
        """Return whether no hyperparameter has changed; one that only another version has, has not."""
        return all(str(parameters[name]) == value for name, value in self.parameters.items() if name in parameters)


def _format_parameters(parameters: Mapping[str, ParamValue]) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items()}


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

    def open(
        self, configured: Logger, parameters: Mapping[str, ParamValue], epoch: float, branches: bool
    ) -> tuple[int, LoggerRecord]:
        """Begin or continue the record of a logger; return its number and the record.

        Args:
            configured: logger.
            parameters: current hyperparameters.
            epoch: epoch from which the training is resumed; 0 for a new run.
            branches: whether later epochs were trained before.
        """
        settings = {name: value for name, value in configured.to_dict().items() if name not in field_types(Logger)}
        for number, previous in self._previous.items():
            if format_json(previous.settings) == format_json(settings):
                del self._previous[number]
                self._records[number] = previous.resumed(parameters, epoch, branches)
                return number, self._records[number]
        self._records.append(LoggerRecord(settings, _format_parameters(parameters)))
        return len(self._records) - 1, self._records[-1]

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
