"""Profile of a few training steps, for TensorBoard's PROFILE tab."""

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
"""Minimum number of profiled steps; the profile ends after an execution, and with the epoch."""


@dataclass(frozen=True)
class ProfilerBackend:
    """Profiler of a backend, which writes `PROFILE_DIR/plugins/profile/TIME/HOST.xplane.pb`."""

    start: Callable[[str], Any]
    stop: Callable[[], Any]
    step: Callable[[int], AbstractContextManager[Any]]
    """Returns a context manager that annotates the step of this number."""


class StepProfiler:
    """Profiler of the second execution of steps and the following ones; the first one includes compilation.

    Args:
        profile_dir: log directory of TensorBoard.

    Raises:
        UsageError: if TensorBoard cannot show profiles of the backend.
    """

    def __init__(self, profile_dir: Path):
        self.profile_dir = profile_dir
        self.profiler = _make_profiler_backend()
        self._is_compiled = False
        self._first_step = self._last_step = 0
        self._step_annotation: AbstractContextManager[Any] | None = None
        self._is_running = self._is_done = False

    def on_execution_begin(self, step: int) -> None:
        """Start the profile if it is time, and annotate the execution that starts with this step of the run."""
        if not self._is_compiled or self._is_done:
            return
        if not self._is_running:
            try:
                self.profiler.start(str(self.profile_dir))
            except Exception as error:  # another profiler is active in this process
                logger.warning("failed to write a profile: %s", error)
                self._is_done = True
                return
            self._is_running = True
            self._first_step = step
        self._step_annotation = self.profiler.step(step)
        self._step_annotation.__enter__()

    def on_execution_end(self, step: int) -> None:
        """End the annotation; stop after `MIN_PROFILED_STEPS`. The execution ended with this step of the run."""
        self._is_compiled = True
        self._last_step = step
        self._end_step()
        if step - self._first_step + 1 >= MIN_PROFILED_STEPS:
            self._stop()

    def on_steps_end(self) -> None:
        """Stop the profile, which does not include validation."""
        self._stop()

    def close(self) -> None:
        """Stop the profile; warn if there is none."""
        self._end_step()
        self._stop()
        if self._is_compiled and not self._is_done:
            logger.warning(
                "no profile written: all steps ran in a single execution, and the first execution includes "
                "compilation; train more epochs, or set --trainer.steps_per_execution"
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
            logger.warning("failed to write a profile: %s", error)
        else:
            logger.info("profile of steps %d to %d written to %s", self._first_step, self._last_step, self.profile_dir)


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
    raise UsageError(f"--trainer.profile true: not supported by the {backend} backend (tensorflow and jax only)")
