"""What happens between executions of steps, while `fit` runs."""

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
"""Steps between two looks at values that make the host wait for the device."""


class StepCallback(keras.callbacks.Callback):
    """Between executions: progress, a loss that is no number, a checkpoint when it is due, Ctrl-C.

    Keras counts executions, so steps are counted here.

    Args:
        on_metrics_reset: called when `fit` has reset the sums of the epoch.
        on_metrics: gets the values of the epoch so far, now and then.
        on_execution_end: gets the steps of the run that are done.
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
        """The steps of the run that each execution of the epoch is made of."""
        self._last_sync_step = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._last_sync_step = self.executions[0].start
        self.interrupt.report_phase("epoch")
        self.on_metrics_reset()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.on_execution_begin(self.executions[batch].start + 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        done = self.executions[batch].stop
        if self.profile is not None:
            self.profile.on_execution_end(done)
        if logs and (done - self._last_sync_step >= HOST_SYNC_EVERY_STEPS or done == self.executions[-1].stop):
            self._last_sync_step = done
            self.on_metrics(logs)
            self.progress.update(done, (done - 1) // self.steps_per_epoch + 1, float(logs["loss"]))
        self.on_execution_end(done)
        self.interrupt.report_phase("step")
        # Behind the last step only the values of the epoch are missing, which no checkpoint could give back: they are
        # taken first, and what follows looks for signals again.
        if done < self.executions[-1].stop:
            self.interrupt.check()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.on_epoch_end()

    def close(self) -> None:
        """Ends the bar and the profile."""
        self.progress.close()
        if self.profile is not None:
            self.profile.close()


def select_logged_metrics(logs: Mapping[str, Any]) -> dict[str, float]:
    """The values of `fit` or `evaluate` that are meant for people, the loss first.

    Raises:
        UsageError: when there was nothing to compute them from.
    """
    if "loss" not in logs:
        raise UsageError("no sample is left to validate on: all of them were dropped or bad")
    hidden = ("loss", NON_FINITE, GRADIENT_NORM)
    return {"loss": float(logs["loss"]), **{name: float(value) for name, value in logs.items() if name not in hidden}}
