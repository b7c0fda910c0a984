"""What happens between executions of steps, while `fit` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfaip_like._training.profiler import Profile
from tfaip_like._training.progress import Progress
from tfaip_like._training.steps.training_model import GRADIENT_NORM, NON_FINITE
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag

LOOK_EVERY = 32
"""Steps between two looks at values that make the host wait for the device."""


class EveryStep(keras.callbacks.Callback):
    """Between executions: progress, a loss that is no number, a checkpoint when it is due, Ctrl-C.

    Keras counts executions, so steps are counted here.

    Args:
        at_begin: called when `fit` has reset the sums of the epoch.
        look: gets the values of the epoch so far, now and then.
        after_execution: gets the steps of the run that are done.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        progress: Progress,
        interrupt: InterruptFlag,
        at_begin: Callable[[], None],
        look: Callable[[Mapping[str, Any]], None],
        after_execution: Callable[[int], None],
        profile: Profile | None = None,
    ):
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.progress = progress
        self.interrupt = interrupt
        self.at_begin = at_begin
        self.look = look
        self.after_execution = after_execution
        self.profile = profile
        self.executions: Sequence[range] = ()
        """The steps of the run that each execution of the epoch is made of."""
        self._looked_at = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._looked_at = self.executions[0].start
        self.interrupt.reach("epoch")
        self.at_begin()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.before_execution(self.executions[batch].start + 1)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        done = self.executions[batch].stop
        if self.profile is not None:
            self.profile.after_execution(done)
        if logs and (done - self._looked_at >= LOOK_EVERY or done == self.executions[-1].stop):
            self._looked_at = done
            self.look(logs)
            self.progress.show(done, (done - 1) // self.steps_per_epoch + 1, float(logs["loss"]))
        self.after_execution(done)
        self.interrupt.reach("step")
        # Behind the last step only the values of the epoch are missing, which no checkpoint could give back: they are
        # taken first, and what follows looks for signals again.
        if done < self.executions[-1].stop:
            self.interrupt.check()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.profile is not None:
            self.profile.end_epoch()

    def close(self) -> None:
        """Ends the bar and the profile."""
        self.progress.close()
        if self.profile is not None:
            self.profile.close()


def logged_values(logs: Mapping[str, Any]) -> dict[str, float]:
    """The values of `fit` or `evaluate` that are meant for people, the loss first.

    Raises:
        UsageError: when there was nothing to compute them from.
    """
    if "loss" not in logs:
        raise UsageError("no sample is left to validate on: all of them were dropped or bad")
    hidden = ("loss", NON_FINITE, GRADIENT_NORM)
    return {"loss": float(logs["loss"]), **{name: float(value) for name, value in logs.items() if name not in hidden}}
