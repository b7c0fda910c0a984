"""Keras' own callbacks in a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS
from tfaip_like._training.callbacks.run_context import TrainingContext
from tfaip_like._utils.errors import UsageError

Logs = dict[str, float]

REPLACEMENTS: Mapping[str, str] = {
    "BackupAndRestore": "resume-training continues from checkpoints/; see --trainer.checkpoint_every",
    "ModelCheckpoint": "best/ is the best epoch by --early_stopping.monitor; see --trainer.keep_checkpoints",
    "SwapEMAWeights": "use --trainer.calc_ema",
    "ReduceLROnPlateau": "use --learning_rate ReduceOnPlateau",
    "LearningRateScheduler": "use --learning_rate with one of its schedules, or your own Schedule class",
}
"""Keras' callbacks that change weights or the learning rate behind the training loop, each with our equivalent."""


class KerasCallbacks:
    """Keras callbacks, called at the places where `fit` calls them; their own state is not saved.

    Args:
        callbacks: callbacks of Keras.
        model: what they see as `self.model`.
        epochs: number of epochs.
        steps_per_epoch: steps of an epoch.

    Raises:
        UsageError: for a callback that changes weights or the learning rate behind the training loop.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, epochs: int, steps_per_epoch: int
    ):
        for callback in callbacks:
            _check_supported(callback)
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), add_history=False, model=model, verbose=0, epochs=epochs, steps=steps_per_epoch
        )
        self._has_batch_hooks = _override_any(callbacks, _TRAIN_BATCH_HOOKS)
        self._has_test_batch_hooks = _override_any(callbacks, _TEST_BATCH_HOOKS)
        self._last_logs: Logs = {}
        model.stop_training = False

    def on_train_begin(self, run: TrainingContext) -> None:
        """Call `on_train_begin`."""
        self._call(run, "on_train_begin")

    def on_epoch_begin(self, run: TrainingContext) -> None:
        """Call `on_epoch_begin` with the epoch, from 0."""
        self._call(run, "on_epoch_begin", run.epoch - 1)

    def on_execution_begin(self, run: TrainingContext) -> None:
        """Call `on_train_batch_begin` with the first step of the execution, from 0 in each epoch."""
        if self._has_batch_hooks:
            self._call(run, "on_train_batch_begin", run.step % run.steps_per_epoch)

    def on_execution_end(self, run: TrainingContext, read_metrics: Callable[[], Mapping[str, float]]) -> None:
        """Call `on_train_batch_end` with the last step of the execution."""
        if self._has_batch_hooks:
            self._call(run, "on_train_batch_end", (run.step - 1) % run.steps_per_epoch, dict(read_metrics()))

    def on_test_begin(self, run: TrainingContext) -> None:
        """Call `on_test_begin`."""
        self._call(run, "on_test_begin")

    def on_test_batch_begin(self, run: TrainingContext, number: int) -> None:
        """Call `on_test_batch_begin` with the batch, from 0."""
        if self._has_test_batch_hooks:
            self._call(run, "on_test_batch_begin", number)

    def on_test_batch_end(
        self, run: TrainingContext, number: int, read_metrics: Callable[[], Mapping[str, float]]
    ) -> None:
        """Call `on_test_batch_end` with the averages over the batches so far."""
        if self._has_test_batch_hooks:
            self._call(run, "on_test_batch_end", number, dict(read_metrics()))

    def on_test_end(self, run: TrainingContext, metrics: Mapping[str, float]) -> None:
        """Call `on_test_end` with the metrics of the validation data, without prefix."""
        self._call(run, "on_test_end", {name.removeprefix("val_"): value for name, value in metrics.items()})

    def on_epoch_end(self, run: TrainingContext, metrics: Mapping[str, float]) -> None:
        """Call `on_epoch_end` with the metrics of training and validation."""
        self._last_logs = {name: value for name, value in metrics.items() if name not in BOOKKEEPING_COLUMNS}
        self._call(run, "on_epoch_end", run.epoch - 1, dict(self._last_logs))

    def on_train_end(self, run: TrainingContext) -> None:
        """Call `on_train_end` with the metrics of the last epoch."""
        self._call(run, "on_train_end", self._last_logs)

    def _call(self, run: TrainingContext, hook: str, *args: Any) -> None:
        model = run.training_model
        getattr(self._callbacks, hook)(*args)
        if model.stop_training:
            model.stop_training = False
            run.request_stop("a Keras callback set stop_training")


_TRAIN_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_TEST_BATCH_HOOKS = ("on_test_batch_begin", "on_test_batch_end")


def _override_any(callbacks: Sequence[keras.callbacks.Callback], hooks: Sequence[str]) -> bool:
    """Return whether a callback has one of these hooks: they read metrics, for which the host waits for the device."""
    base = keras.callbacks.Callback
    return any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(base, hook)  # LambdaCallback sets them
        for callback in callbacks
        for hook in hooks
    )


def _check_supported(callback: keras.callbacks.Callback) -> None:
    if not isinstance(callback, keras.callbacks.Callback):
        raise UsageError(f"callbacks: {callback!r} is neither a Callback of this package nor one of Keras")
    restores = isinstance(callback, keras.callbacks.EarlyStopping) and callback.restore_best_weights
    if restores:
        raise UsageError("callbacks: EarlyStopping(restore_best_weights=True): best/ holds the best weights; use False")
    for name, advice in REPLACEMENTS.items():
        if isinstance(callback, getattr(keras.callbacks, name)):
            raise UsageError(f"callbacks: {name} is not supported: {advice}")
