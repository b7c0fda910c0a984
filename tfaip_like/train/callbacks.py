"""What happens while `fit` runs: between steps, and after each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfaip_like.data.pipeline import Batches
from tfaip_like.errors import TrainingError, UsageError
from tfaip_like.interrupt import InterruptFlag
from tfaip_like.train.profile import Profile
from tfaip_like.train.progress import Progress

LOOK_EVERY = 32
"""Steps between two looks at values that make the host wait for the device."""


class EveryStep(keras.callbacks.Callback):
    """Between executions of steps: Ctrl-C, progress, and a stop when the loss is no number.

    Keras counts the steps of its last execution in an epoch beyond the end, so they are counted here.
    """

    def __init__(self, batches: Batches, progress: Progress, interrupt: InterruptFlag, profile: Profile | None = None):
        super().__init__()
        self.batches = batches
        self.steps_per_epoch = batches.steps_per_epoch
        self.progress = progress
        self.interrupt = interrupt
        self.profile = profile
        self.epoch = 0
        self._looked_at = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.epoch = epoch
        self._looked_at = 0

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.before_execution(self._step_of_run(batch))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.interrupt.check()
        done = min(batch + 1, self.steps_per_epoch)
        if self.profile is not None:
            self.profile.after_execution(self._step_of_run(done - 1))
        if logs and (done - self._looked_at >= LOOK_EVERY or done == self.steps_per_epoch):
            self._looked_at = done
            self._stop_if_not_finite(logs)
            self.progress.show(self.epoch * self.steps_per_epoch + done, self.epoch + 1, float(logs["loss"]))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.end_epoch()

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.interrupt.check()

    def close(self) -> None:
        """Ends the bar and the profile."""
        self.progress.close()
        if self.profile is not None:
            self.profile.close()

    def _step_of_run(self, step: int) -> int:
        """The number in the run, from 1, of a step of this epoch, from 0."""
        return self.epoch * self.steps_per_epoch + step + 1

    def _stop_if_not_finite(self, logs: Mapping[str, Any]) -> None:
        step = int(logs["first_non_finite"])
        if step == 0:
            return
        losses = [name for name in self.model.loss_trackers if not _is_finite(logs[name])]
        step_of_run = self.epoch * self.steps_per_epoch + step
        what = (
            f"the loss is no longer a finite number ({', '.join(losses) or 'regularisation'}): first at step {step} of "
            f"epoch {self.epoch + 1} (step {step_of_run} of the run)."
        )
        if place := self.batches.non_finite(step_of_run - 1):
            raise UsageError(f"{what}\nThe data of that step hold NaN or infinity: {place}.")
        raise TrainingError(
            f"{what}\n"
            "Often the learning rate is too high (--learning_rate.lr), gradients explode "
            "(--optimizer.clip_global_norm 1), or the model divides by 0."
        )


def _is_finite(value: Any) -> bool:
    return abs(float(value)) < float("inf")


class EveryEpoch(keras.callbacks.Callback):
    """After each epoch: hands its number (from 1), its training values and its duration to a function."""

    def __init__(self, after_epoch: Callable[[int, dict[str, float], float], None]):
        super().__init__()
        self.after_epoch = after_epoch
        self._begin = 0.0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        seconds = time.perf_counter() - self._begin
        self.after_epoch(epoch + 1, logged_values(logs or {}), seconds)


def logged_values(logs: Mapping[str, Any]) -> dict[str, float]:
    """The values of `fit` or `evaluate` that are meant for people, the loss first."""
    values = {name: float(value) for name, value in logs.items() if name != "first_non_finite"}
    if "loss" not in values:
        raise UsageError("no sample is left to validate on: all of them were dropped or bad")
    return {"loss": values.pop("loss"), **values}
