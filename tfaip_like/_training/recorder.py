"""Recorder of evaluations: history, report and the log line."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

from tfaip_like._runs.history import History
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.epoch_line import EpochLine
from tfaip_like._training.loggers.logged_values import LoggedEpoch
from tfaip_like._training.reporter import Reporter
from tfaip_like._training.selection.best_tracker import BestTracker
from tfaip_like._training.selection.comparison import COMPARE_PREFIX, RunComparison
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.validation.validations import Summaries, Validations
from tfaip_like._utils.console import log_with_console_line
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)


class EpochRecorder:
    """Recorder of the values of each evaluation; holds the history.

    Args:
        scenario: scenario of the run.
        output_dir: run directory; None saves nothing.
        model: training model, for the names of the losses.
        validations: validations of the run, for their prefixes.
        best: monitored metric and its mode.
    """

    def __init__(
        self,
        scenario: Scenario,
        output_dir: OutputDir | None,
        model: TrainingModel,
        validations: Validations,
        best: BestTracker,
    ):
        self._losses = list(model.loss_trackers)
        self._prefixes = validations.prefixes
        self._monitor = best.monitor
        self._line = EpochLine(scenario.trainer.epochs, self._losses, best.monitor)
        self.history = History(output_dir)
        self.epoch_ends: list[float] = []
        """Unix time of each row that this process has recorded."""
        compare_to = scenario.trainer.compare_to
        self._comparison = RunComparison(compare_to, best) if compare_to is not None else None
        self._reporter = Reporter(output_dir)

    @property
    def prefixes(self) -> list[str]:
        """Return the prefixes of metrics that are not those of training."""
        return [*self._prefixes, *([COMPARE_PREFIX] if self._comparison is not None else [])]

    def compare(self, row: Mapping[str, float]) -> Mapping[str, float]:
        """Return the columns of the comparison with a reference run (`--trainer.compare_to`)."""
        return self._comparison.values(row) if self._comparison is not None else {}

    def record(self, row: Mapping[str, float], summaries: Summaries) -> None:
        """Record an evaluation.

        Args:
            row: row of the history.
            summaries: summaries of the validations, by prefix and name.

        Raises:
            OSError: if the disk is full; the call may be repeated.
        """
        self.history.write_with_row(row)
        self._reporter.on_epoch_end(summaries)
        self.history.rows.append(dict(row))

    def log(self, row: Mapping[str, float], is_improved: bool) -> None:
        """Log a line about a row that was recorded."""
        self.epoch_ends.append(round(time.time(), 3))
        log_with_console_line(
            logger,
            self._line.format_complete(row, is_improved),
            partial(self._line.format_for_console, row, is_improved),
        )

    def restore(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Restore the history of a checkpoint.

        Args:
            rows: rows of the history.
        """
        self.history.restore(rows)

    def to_logged_epoch(
        self, row: Mapping[str, float], is_best: bool, summaries: Summaries | None = None
    ) -> LoggedEpoch:
        """Return the values of an evaluation for loggers.

        Args:
            row: row of the history.
            is_best: whether it is the best so far.
            summaries: summaries of the validations, by prefix and name.
        """
        shown = {f"{prefix}{name}": each for prefix, part in (summaries or {}).items() for name, each in part.items()}
        best = {name: row[name] for name in self._best_metric_names() if name in row}
        metrics = {name: value for name, value in row.items() if name != "step"}
        return LoggedEpoch(row["epoch"], int(row["step"]), metrics, shown, best if is_best else None)

    def close(self) -> None:
        """Write what is pending, and close all files."""
        self._reporter.close()

    def _best_metric_names(self) -> list[str]:
        """Return the names of the monitored metric and of all losses."""
        terms = self._losses if len(self._losses) > 1 else ()  # a single one equals the loss
        losses = [f"{prefix}{name}" for prefix in ("", *self._prefixes) for name in ("loss", *terms)]
        return list(dict.fromkeys([self._monitor, *losses]))
