"""`Logger`: destination of the values of a training outside of its run directory."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from tfaip_like.params._stateful import StatefulParams
from tfaip_like.summaries import Summary

Metrics: TypeAlias = Mapping[str, float]
ParamValue: TypeAlias = bool | int | float | str
Status: TypeAlias = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class LoggedRun:
    """Training that a logger is started for.

    Example:
        >>> LoggedRun(name="run_1", scenario="Tutorial").is_resumed
        False
    """

    name: str
    """Name of the run directory, or of the scenario without one."""

    scenario: str
    """Class name of the scenario."""

    output_dir: Path | None = None
    """Run directory; None if nothing is saved."""

    batch: str | None = None
    """Name of the batch of `experiments` that the run belongs to."""

    description: str = ""
    """Description of the run (`--trainer.description`)."""

    provenance: Mapping[str, str] = field(default_factory=dict)
    """Command, host, user and git commit of the run."""

    prefixes: Sequence[str] = ()
    """Prefixes of the metrics and summaries of validations: `val_`, `lav_`, `lav_LIST_`."""

    start_time: float | None = None
    """First start of the run in seconds since 1970; None if unknown."""

    logged_steps: int = 0
    """Last step that this logger has logged before the run was resumed; 0 if there is none."""

    is_resumed: bool = False
    """Whether the logger continues what it logged before; its state is restored then."""

    parent: Mapping[str, Any] | None = None
    """State of the logger before the run was resumed from an earlier epoch or with other parameters; None otherwise."""


class Logger(StatefulParams, abc.ABC):
    r"""Base class of loggers: override the methods you need.

    A logger is chosen by flag (`--loggers MLflow --loggers.0.experiment digits`), in the class of a scenario
    (`loggers = [MLflow(experiment="digits")]`), or in Python (`train(scenario, loggers=[MLflow()])`).

    All methods are called from one thread of the logger, in the order of the training, which never waits for them. If
    a method raises an `OSError` (`ConnectionError`, `TimeoutError`), it is called again until it succeeds: a server may
    be away for a while. After another exception the value is lost. Neither ends the training.

    Its parameters are frozen. Each training works on a copy, on which methods may set other attributes. They are saved
    after `start` and restored on resume, so they must be JSON values, such as the ID of a run; names that begin with an
    underscore, such as a connection, are not saved.

    Example:
        >>> class Lines(Logger):
        ...     file: Path = Path("metrics.txt")
        ...
        ...     def start(self, run):
        ...         self._file = self.file.open("a")
        ...
        ...     def log_metrics(self, metrics, step, epoch):
        ...         self._file.write(f"{step} {metrics['loss']}\n")
        ...
        ...     def finish(self, status):
        ...         self._file.close()
        >>> Lines(file="loss.txt").timeout_seconds
        60.0
    """

    plugin_group = "tfaip_like.loggers"

    required_packages: ClassVar[tuple[str, ...]] = ()
    """Modules that `start` imports; training does not start if one is not installed."""
    extra: ClassVar[str] = ""
    """What to install if one is missing; by default its name."""

    foreign_name_hints = {
        **dict.fromkeys(("log_hyperparams", "log_hparams", "log_config"), "override `log_params`"),
        **dict.fromkeys(("log_metric", "log", "log_dict", "log_scalar"), "override `log_metrics`"),
        **dict.fromkeys(
            ("log_image", "log_images", "log_text", "log_table", "log_histogram"), "override `log_summary`"
        ),
        **dict.fromkeys(("log_model", "after_save_checkpoint"), "override `log_artifact`"),
        **dict.fromkeys(("finalize", "close", "end"), "override `finish`"),
    }

    timeout_seconds: float = 60.0
    """Seconds that the end of a training waits for values and files that are not sent yet; 10 if it fails or stops."""

    def check(self) -> None:
        is_valid = math.isfinite(self.timeout_seconds) and self.timeout_seconds >= 0
        self.require(is_valid, "timeout_seconds", "must be a finite number, at least 0")

    def start(self, run: LoggedRun) -> None:
        """Connect, and create the run or continue it (`run.is_resumed`).

        Args:
            run: the training.
        """

    def last_step(self) -> int | None:
        """Return the last step that the destination of a continued run has; None if it cannot be queried.

        Steps up to it are not logged again. Without it, those count that were logged according to the run directory,
        which does not have the last one if the process was killed at that moment.
        """

    def log_params(self, params: Mapping[str, ParamValue]) -> None:
        """Log the hyperparameters, after each start.

        Args:
            params: parameters by flag without dashes; values other than numbers and booleans as strings.
        """

    def log_metrics(self, metrics: Metrics, step: int, epoch: float) -> None:
        """Log the values of an epoch, or of a validation within it.

        Args:
            metrics: values as in history.csv, and those that callbacks have logged; may be NaN or infinite.
            step: completed steps of the run.
            epoch: completed epochs; a fraction within an epoch.
        """

    def log_best(self, metrics: Metrics, step: int, epoch: float) -> None:
        """Log that the last values are the best so far.

        Args:
            metrics: monitored value and losses.
            step: completed steps of the run.
            epoch: completed epochs; a fraction within an epoch.
        """

    def log_summary(self, name: str, summary: Summary, step: int, epoch: float) -> None:
        """Log an image, figure, curve, histogram, table or text of a validation.

        Args:
            name: name with the prefix of the validation, such as `val_confusion`.
            summary: object of a class of `tfaip_like.summaries`.
            step: completed steps of the run.
            epoch: completed epochs; a fraction within an epoch.
        """

    def log_artifact(self, path: Path) -> None:
        """Log a directory at the end of a complete training: the export of the best epoch.

        Args:
            path: directory in the run directory, named `best` or `export`.
        """

    def finish(self, status: Status) -> None:
        """Send what is pending, and close the connection.

        Args:
            status: `done`, `stopped` by a signal (the run may be resumed), or `failed`.
        """
