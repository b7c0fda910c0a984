"""Training progress: a bar over the whole run in a terminal, otherwise a log line every 30 seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from tfaip_like._utils.progress_bar import ProgressBar, format_remaining_time, training_progress_bar

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 30.0
REFRESH_INTERVAL_S = 0.5
OTHER_WORK = "other"
"""Name of the work of each evaluation besides validation: exports, checkpoints, the report."""
CountValidations = Callable[[int, int, float], Mapping[str, float]]
SMOOTHING = 0.3
"""Smoothing factor of the moving averages of durations."""


class RemainingTimeEstimator:
    """Estimator of the remaining time, from the measured durations of steps and of each kind of validation.

    Args:
        steps_per_epoch: steps per epoch.
        epochs: number of epochs.
        count_validations: see `Validations.count_remaining`.

    Example:
        >>> estimator = RemainingTimeEstimator(10, epochs=2, count_validations=lambda *_: {"val_": 2})
        >>> estimator.record_steps(10, 5.0)
        >>> estimator.record("val_", 2.0)
        >>> estimator.remaining_seconds(done=10)  # five seconds of steps and two validations
        9.0
    """

    def __init__(
        self,
        steps_per_epoch: int,
        epochs: int,
        count_validations: CountValidations = lambda step, steps_per_epoch, seconds: {},
    ):
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._count_validations = count_validations
        self._step_seconds: float | None = None
        self._phase_seconds: dict[str, float] = {}
        self._estimated_seconds: dict[str, float] = {}
        self._num_measured = 0

    def record_steps(self, steps: int, seconds: float) -> None:
        """Record the duration of steps; the first ones include compilation and are dropped once there are others."""
        before = self._step_seconds if self._num_measured > 1 else None
        self._step_seconds = _smooth(before, seconds / steps)
        self._num_measured += 1

    def record(self, name: str, seconds: float) -> None:
        """Record the duration of a validation, or of the other work of an evaluation (`OTHER_WORK`)."""
        self._phase_seconds[name] = _smooth(self._phase_seconds.get(name), seconds)

    def estimate(self, name: str, seconds: float) -> None:
        """Set the expected duration of a validation that was not measured yet."""
        self._estimated_seconds[name] = seconds

    def expected_seconds(self, name: str) -> float | None:
        """Return the expected duration of a validation; None if it is unknown."""
        return self._phase_seconds.get(name, self._estimated_seconds.get(name))

    def remaining_seconds(self, done: int, finished: Sequence[str] = ()) -> float | None:
        """Return the remaining seconds; None if no step was measured.

        Args:
            done: completed steps of the run.
            finished: names of the validations that are complete among those due after these steps.
        """
        if self._step_seconds is None:
            return None
        seconds = (self._steps_per_epoch * self._epochs - done) * self._step_seconds
        counts = self._count_validations(done, self._steps_per_epoch, seconds)
        num_epochs = self._epochs - max(0, done - 1) // self._steps_per_epoch
        counts = {**counts, OTHER_WORK: max([num_epochs, *counts.values()])}
        for name, count in counts.items():
            seconds += max(0.0, count - (name in finished)) * (self.expected_seconds(name) or 0.0)
        return seconds


def _smooth(before: float | None, latest: float) -> float:
    return latest if before is None else before + SMOOTHING * (latest - before)


class Progress:
    """Progress display: step, epoch, loss or validation, and the remaining time of the run.

    Args:
        steps_per_epoch: steps per epoch.
        epochs: number of epochs.
        done: completed steps of a resumed run.
        count_validations: see `Validations.count_remaining`.
        stream: output of the progress bar; stderr by default.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        epochs: int,
        done: int = 0,
        count_validations: CountValidations = lambda step, steps_per_epoch, seconds: {},
        stream: IO[str] | None = None,
    ):
        self.steps_per_epoch = steps_per_epoch
        self.steps = steps_per_epoch * epochs
        self.epochs = epochs
        self.done = done
        self.remaining_time = RemainingTimeEstimator(steps_per_epoch, epochs, count_validations)
        self._clock = time.monotonic
        self._phase_start = self._last_shown = self._clock()
        self._validation: _RunningValidation | None = None
        self._finished_validations: list[str] = []
        self._validation_seconds = 0.0
        """Duration of the validations of the current evaluation."""
        self._epoch = min(done // steps_per_epoch + 1, epochs)
        """Current epoch."""
        self._stream = stream or sys.stderr
        self._bar = self._open_bar()

    def update(self, done: int, epoch: int, loss: float) -> None:
        """Show progress.

        Args:
            done: completed steps of the run.
            epoch: current epoch, from 1.
            loss: mean loss of the epoch so far.
        """
        now = self._clock()
        if done > self.done:
            self.remaining_time.record_steps(done - self.done, now - self._phase_start)
        self._phase_start, self._epoch = now, epoch
        self._display(done, loss)

    @contextmanager
    def measure_evaluation(self, epoch: int) -> Iterator[None]:
        """Measure the block as an evaluation in an epoch, from 1."""
        self._epoch, self._validation_seconds, start = epoch, 0.0, self._clock()
        try:
            yield
            self.remaining_time.record(OTHER_WORK, self._clock() - start - self._validation_seconds)
        finally:
            self._finished_validations, self._phase_start = [], self._clock()

    @contextmanager
    def measure_validation(self, name: str, num_batches: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show and measure the block as a validation.

        Args:
            name: prefix of its metrics: `val_`, `lav_`.
            num_batches: number of its batches; None if unknown.

        Yields:
            Function to call with the number of completed batches.
        """
        self._validation = validation = _RunningValidation(name, num_batches)
        self._phase_start = self._last_shown = self._clock()
        try:
            yield validation.set_done
            seconds = self._clock() - self._phase_start
            self.remaining_time.record(name, seconds)
            self._validation_seconds += seconds
            self._finished_validations.append(name)
        finally:
            self._validation = None
            if self._bar is not None and validation.has_bar:
                self._bar.close()
                self._bar = self._open_bar()

    def refresh(self) -> None:
        """Show the progress of a running validation; called where training checks for interrupts."""
        if self._validation is None:
            return
        interval = LOG_INTERVAL_S if self._bar is None else REFRESH_INTERVAL_S
        if self._clock() - self._last_shown > interval:
            self._show_validation(self._validation)

    def _show_validation(self, validation: _RunningValidation) -> None:
        """Show the bar of a validation instead of that of the run, or log a line."""
        now, name = self._clock(), validation.prefix.removesuffix("_")
        self._last_shown = now
        if validation.num_batches and validation.done:
            self.remaining_time.estimate(
                validation.prefix, (now - self._phase_start) * validation.num_batches / validation.done
            )
        if self._bar is None:
            self._log(f"step {self.done}/{self.steps}, validating ({name}): {validation}")
            return
        if not validation.has_bar:
            validation.has_bar = True
            self._bar.close()
            self._bar = training_progress_bar(validation.num_batches, 0, "batch", name, self._stream)
        self._bar.n = validation.done
        self._bar.set_description_str(f"{self._format_position()}, {name}", refresh=True)

    def _display(self, done: int, loss: float) -> None:
        """Update the bar, or log a line if the last one is older than `LOG_INTERVAL_S`."""
        now, advanced = self._clock(), done - self.done
        self.done = done
        if self._bar is not None:
            self._bar.set_description_str(self._format_position(), refresh=False)
            self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self._bar.update(advanced)
            self._last_shown = now
        elif now - self._last_shown > LOG_INTERVAL_S:
            self._last_shown = now
            self._log(f"step {done}/{self.steps}, loss {loss:.4g}")

    def _log(self, state: str) -> None:
        logger.info("epoch %d/%d, %s%s", self._epoch, self.epochs, state, self._format_remaining())

    def _open_bar(self) -> ProgressBar | None:
        if not self._stream.isatty():
            return None
        return training_progress_bar(self.steps, self.done, "step", self._format_position(), self._stream)

    def _format_position(self) -> str:
        return f"epoch {self._epoch}/{self.epochs}{self._format_remaining()}"

    def _format_remaining(self) -> str:
        """Return the remaining time after a comma; an empty string if it is unknown."""
        seconds = self.remaining_time.remaining_seconds(self.done, self._finished_validations)
        if seconds is None:
            return ""
        if self._validation is not None:  # partly done
            expected = self.remaining_time.expected_seconds(self._validation.prefix) or 0.0
            seconds -= min(expected, self._clock() - self._phase_start)
        return f", {format_remaining_time(max(0.0, seconds))} left"

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


@dataclass
class _RunningValidation:
    """Progress of a validation."""

    prefix: str
    num_batches: int | None
    done: int = 0
    """Completed batches."""
    has_bar: bool = False

    def set_done(self, done: int) -> None:
        """Set the number of completed batches."""
        self.done = done

    def __str__(self) -> str:
        return f"batch {self.done}/{self.num_batches or '?'}"
