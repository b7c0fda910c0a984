"""Observer of a validation: its progress bar, and the batch hooks of Keras callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tfaip_like._training.callbacks.callback_list import CallbackList
from tfaip_like._training.callbacks.run_context import TrainingContext
from tfaip_like._training.validation.validation import BatchObserver


class ValidationObserver(BatchObserver):
    """Observer of the batches of a validation.

    Args:
        set_done: shows the number of completed batches.
        context: view of the training for callbacks.
        callbacks: callbacks whose hooks are run; None for load-and-validate, which Keras does not have.
    """

    def __init__(self, set_done: Callable[[int], None], context: TrainingContext, callbacks: CallbackList | None):
        self._set_done = set_done
        self._context = context
        self._callbacks = callbacks

    def on_batch_begin(self, number: int) -> None:
        self._set_done(number)
        if self._callbacks is not None:
            self._callbacks.call_keras("on_test_batch_begin", self._context, number)

    def on_batch_end(self, number: int, read_metrics: Callable[[], Mapping[str, float]]) -> None:
        self._set_done(number + 1)
        if self._callbacks is not None:
            self._callbacks.call_keras("on_test_batch_end", self._context, number, read_metrics)
