"""The callbacks of a training: their copies, intervals, state and errors."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tfaip_like._training.callbacks.keras_callbacks import KerasCallbacks
from tfaip_like._training.checkpointing.state_schema import CallbackState
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.params._base import qualified_name
from tfaip_like.params._stateful import read_state
from tfaip_like.settings._interval import Interval, parse_interval

logger = logging.getLogger(__name__)


class CallbackList:
    """Callbacks of a training, in the order in which their hooks run.

    Args:
        callbacks: configured callbacks, of which the training uses copies.
        keras_callbacks: callbacks of Keras, which run after these; None if there are none.
    """

    def __init__(self, callbacks: Iterable[Callback], keras_callbacks: KerasCallbacks | None = None):
        self._callbacks = [copy.copy(callback) for callback in callbacks]
        self._keras_callbacks = keras_callbacks
        self._intervals = [parse_interval(callback.every) for callback in self._callbacks]
        self._next_times = [time.monotonic() + interval.seconds for interval in self._intervals]
        self.has_raised = False
        """Whether a hook has raised an exception."""

    @property
    def step_intervals(self) -> list[int]:
        """Return the intervals in steps, at whose multiples executions must end."""
        return [interval.steps for interval in self._intervals if interval.steps]

    def call(self, hook: str, run: RunContext, *args: Any) -> None:
        """Run a hook of all callbacks.

        Args:
            hook: name of the method.
            run: view of the training.
            args: further arguments of the method.

        Raises:
            Exception: any exception of a callback, with a note on its class.
        """
        for callback in (*self._callbacks, self._keras_callbacks):
            if hasattr(callback, hook):
                self._call(callback, hook, run, *args)

    def call_keras(self, hook: str, run: RunContext, *args: Any) -> None:
        """Run a hook that only Keras callbacks have.

        Args:
            hook: name of the method of `KerasCallbacks`.
            run: view of the training.
            args: further arguments of the method.
        """
        if self._keras_callbacks is not None:
            self._call(self._keras_callbacks, hook, run, *args)

    def on_execution_begin(self, run: RunContext) -> None:
        """Run the hooks of Keras callbacks before a batch."""
        self.call_keras("on_execution_begin", run)

    def on_execution_end(self, run: RunContext, read_metrics: Callable[[], Mapping[str, float]]) -> None:
        """Run `on_step_end` of the callbacks that are due, and the hooks of Keras callbacks after a batch.

        Args:
            run: view of the training.
            read_metrics: returns the averages over the epoch so far; it waits for the device.
        """
        due = [
            callback
            for number, callback in enumerate(self._callbacks)
            if type(callback).on_step_end is not Callback.on_step_end and self._is_due(number, run)
        ]
        metrics = read_metrics() if due else {}
        for callback in due:
            self._call(callback, "on_step_end", run, metrics)
        self.call_keras("on_execution_end", run, read_metrics)

    def _is_due(self, number: int, run: RunContext) -> bool:
        interval = self._intervals[number]
        if interval.seconds:
            if (now := time.monotonic()) < self._next_times[number]:
                return False
            self._next_times[number] = now + interval.seconds
            return True
        return run.step % _interval_steps(interval, run.steps_per_epoch) == 0

    def on_exception(self, run: RunContext, error: BaseException) -> None:
        """Run the hook of all callbacks; their own exceptions are logged, because `error` is the reason to end."""
        for callback in self._callbacks:
            try:
                callback.on_exception(run, error)
            except Exception as failure:
                logger.warning("%s.on_exception: %s: %s", type(callback).__name__, type(failure).__name__, failure)

    def state(self) -> list[CallbackState]:
        """Return the state of all callbacks for a checkpoint.

        Raises:
            CodeError: if a state cannot be written as JSON.
        """
        return [CallbackState(qualified_name(type(callback)), read_state(callback)) for callback in self._callbacks]

    def restore(self, saved: Sequence[CallbackState]) -> None:
        """Restore the state of a checkpoint: that of the first callback of a class is for the first of this class.

        Args:
            saved: what `state` returned.
        """
        if self._keras_callbacks is not None:
            logger.warning("the state of Keras callbacks is not restored: Keras has no interface for it")
        remaining = list(saved)
        for callback in self._callbacks:
            name = qualified_name(type(callback))
            match = next((entry for entry in remaining if entry.class_name == name), None)
            if match is not None:
                remaining.remove(match)
                self._call(callback, "load_state_dict", match.state)
        for entry in remaining:
            if entry.state:
                logger.warning("callback %s was removed; its state in the checkpoint is dropped", entry.class_name)

    def _call(self, callback: object, hook: str, *args: Any) -> None:
        try:
            getattr(callback, hook)(*args)
        except Exception as error:
            self.has_raised = True
            if isinstance(callback, Callback):
                error.add_note(f"Raised by the callback {type(callback).__name__} in `{hook}`.")
            raise


def _interval_steps(interval: Interval, steps_per_epoch: int) -> int:
    return interval.steps or interval.epochs * steps_per_epoch
