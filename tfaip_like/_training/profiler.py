"""A profile of a few training steps, for TensorBoard's page PROFILE."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfaip_like._utils.errors import UsageError

logger = logging.getLogger(__name__)

MIN_PROFILED_STEPS = 10
"""How many are profiled, at least; it ends between two executions of steps, and with the epoch."""


@dataclass(frozen=True)
class ProfilerBackend:
    """The profiler of a backend; all of them write `FOLDER/plugins/profile/TIME/HOST.xplane.pb`."""

    start: Callable[[str], Any]
    stop: Callable[[], Any]
    step: Callable[[int], AbstractContextManager[Any]]
    """Marks what belongs to the step of a number."""


class StepProfiler:
    """Profiles some steps of a training, the first execution of steps left out: it compiles.

    Args:
        folder: for the profile.

    Raises:
        UsageError: when the backend has no profiler that TensorBoard understands.
    """

    def __init__(self, profile_dir: Path):
        self.profile_dir = profile_dir
        self.profiler = _make_profiler_backend()
        self._is_compiled = False
        self._first_step = self._last_step = 0
        self._step_annotation: AbstractContextManager[Any] | None = None
        self._is_running = self._is_done = False

    def on_execution_begin(self, step: int) -> None:
        """Called before steps are executed, the first of which has this number in the run."""
        if not self._is_compiled or self._is_done:
            return
        if not self._is_running:
            try:
                self.profiler.start(str(self.profile_dir))
            except Exception as error:  # another one runs in this process
                logger.warning("no profile was written: %s", error)
                self._is_done = True
                return
            self._is_running = True
            self._first_step = step
        self._step_annotation = self.profiler.step(step)
        self._step_annotation.__enter__()

    def on_execution_end(self, step: int) -> None:
        """Called after steps were executed, the last of which has this number in the run."""
        self._is_compiled = True
        self._last_step = step
        self._end_step()
        if step - self._first_step + 1 >= MIN_PROFILED_STEPS:
            self._stop()

    def on_epoch_end(self) -> None:
        """Called when an epoch is over: validation is no part of a profile."""
        self._stop()

    def close(self) -> None:
        """Ends it, however the training ended."""
        self._end_step()
        self._stop()
        if self._is_compiled and not self._is_done:
            logger.warning(
                "no profile was written: all steps were executed at once, and the first execution compiles; "
                "train more epochs, or set --trainer.steps_per_execution"
            )

    def _end_step(self) -> None:
        if self._step_annotation is not None:
            self._step_annotation.__exit__(None, None, None)
            self._step_annotation = None

    def _stop(self) -> None:
        if not self._is_running:
            return
        self._is_running, self._is_done = False, True
        try:
            self.profiler.stop()
        except Exception as error:  # a full disk
            logger.warning("no profile was written: %s", error)
        else:
            logger.info("a profile of steps %d to %d is in %s", self._first_step, self._last_step, self.profile_dir)


def _make_profiler_backend() -> ProfilerBackend:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        profiler = tf.profiler.experimental
        return ProfilerBackend(profiler.start, profiler.stop, lambda step: profiler.Trace("train", step_num=step, _r=1))
    if backend == "jax":
        import jax

        return ProfilerBackend(
            jax.profiler.start_trace,
            jax.profiler.stop_trace,
            lambda step: jax.profiler.StepTraceAnnotation("train", step_num=step),
        )
    raise UsageError(f"--trainer.profile true: there is no profile for TensorBoard on the backend {backend}")
