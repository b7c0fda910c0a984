"""Keras callback of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfaip_like._training.profiler import StepProfiler
from tfaip_like._training.progress import Progress
from tfaip_like._training.steps.training_model import GRADIENT_NORM, NON_FINITE
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag

HOST_SYNC_EVERY_STEPS = 32
"""Minimum number of steps between two reads of metrics, which make the host wait for the device."""


class StepCallback(keras.callbacks.Callback):
    """Keras callback that reports progress, metrics and steps between executions, and checks for interrupts.

    Keras counts executions (of several steps); this class converts them to steps.

    Args:
        steps_per_epoch: optimizer steps per epoch.
        progress: progress display.
        interrupt: checked after each execution; raises to stop.
        on_metrics_reset: called after `fit` has reset the metrics of the epoch.
        on_metrics: called with the metrics of the epoch so far, every `HOST_SYNC_EVERY_STEPS` steps.
        on_execution_end: called with the completed steps of the run.
        profile: profiler of some steps; None profiles nothing.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        progress: Progress,
        interrupt: InterruptFlag,
        on_metrics_reset: Callable[[], None],
        on_metrics: Callable[[Mapping[str, Any]], None],
        on_execution_end: Callable[[int], None],
        profile: StepProfiler | None = None,
    ):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.progress = progress
        self.interrupt = interrupt
        self.on_metrics_reset = on_metrics_reset
        self.on_metrics = on_metrics
        self.on_execution_end = on_execution_end
        self.profile = profile
        self.executions: Sequence[range] = ()
        """Steps of the run in each execution of the epoch."""
        self._last_sync_step = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._last_sync_step = self.executions[0].start
        self.interrupt.report_phase("epoch")
        self.on_metrics_reset()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.on_execution_begin(self.executions[batch].start + 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        step = self.executions[batch].stop
        if self.profile is not None:
            self.profile.on_execution_end(step)
        if logs and (step - self._last_sync_step >= HOST_SYNC_EVERY_STEPS or step == self.executions[-1].stop):
            self._last_sync_step = step
            self.on_metrics(logs)
            self.progress.update(step, (step - 1) // self.steps_per_epoch + 1, float(logs["loss"]))
        self.on_execution_end(step)
        self.interrupt.report_phase("step")
        # Not after the last step: the metrics of the epoch are collected first, since no checkpoint could restore
        # them; signals are checked again after that.
        if step < self.executions[-1].stop:
            self.interrupt.check()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.on_epoch_end()

    def close(self) -> None:
        """Close the progress bar and the profile."""
        self.progress.close()
        if self.profile is not None:
            self.profile.close()


def select_logged_metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of `fit` or `evaluate` to log, the loss first.

    Raises:
        UsageError: if there are none, because there was no sample.
    """
    if "loss" not in logs:
        raise UsageError("validation set is empty: every sample was dropped or failed")
    hidden = ("loss", NON_FINITE, GRADIENT_NORM)
    return {"loss": float(logs["loss"]), **{name: float(value) for name, value in logs.items() if name not in hidden}}
