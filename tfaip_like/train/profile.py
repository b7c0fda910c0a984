"""A profile of a few training steps, for TensorBoard's page PROFILE."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tfaip_like.errors import UsageError

logger = logging.getLogger(__name__)

STEPS = 10
"""How many are profiled, at least; it ends between two executions of steps, and with the epoch."""


@dataclass(frozen=True)
class Profiler:
    """The profiler of a backend; all of them write `FOLDER/plugins/profile/TIME/HOST.xplane.pb`."""

    start: Callable[[str], Any]
    stop: Callable[[], Any]
    step: Callable[[int], AbstractContextManager[Any]]
    """Marks what belongs to the step of a number."""


class Profile:
    """Profiles some steps of a training, the first execution of steps left out: it compiles.

    Args:
        folder: for the profile.

    Raises:
        UsageError: when the backend has no profiler that TensorBoard understands.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.profiler = _profiler()
        self._is_compiled = False
        self._first_step = 0
        self._step: AbstractContextManager[Any] | None = None
        self.is_running = self.is_done = False

    def before_execution(self, step: int) -> None:
        """Called before steps are executed, the first of which has this number in the run."""
        if not self._is_compiled or self.is_done:
            return
        if not self.is_running:
            try:
                self.profiler.start(str(self.folder))
            except Exception as error:  # another one runs in this process
                logger.warning("no profile is written: %s", error)
                self.is_done = True
                return
            self.is_running = True
            self._first_step = step
        self._step = self.profiler.step(step)
        self._step.__enter__()

    def after_execution(self, step: int) -> None:
        """Called after steps were executed, the last of which has this number in the run."""
        self._is_compiled = True
        self._end_step()
        if self.is_running and step - self._first_step + 1 >= STEPS:
            self._stop(step)

    def end_epoch(self, step: int) -> None:
        """Called when an epoch is over, the last step of which has this number in the run."""
        if self.is_running:
            self._stop(step)

    def close(self) -> None:
        """Ends it, however the training ended."""
        self._end_step()
        if self.is_running:
            self.is_running, self.is_done = False, True
            self.profiler.stop()
        elif not self.is_done:
            logger.warning(
                "no profile was written: all steps were executed at once, and the first execution compiles; "
                "train more epochs, or set --trainer.steps_per_execution"
            )
        self.is_done = True

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.__exit__(None, None, None)
            self._step = None

    def _stop(self, step: int) -> None:
        self.is_running, self.is_done = False, True
        self.profiler.stop()
        logger.info("a profile of steps %d to %d is in %s", self._first_step, step, self.folder)


def _profiler() -> Profiler:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        profiler = tf.profiler.experimental
        return Profiler(profiler.start, profiler.stop, lambda step: profiler.Trace("train", step_num=step, _r=1))
    if backend == "jax":
        import jax

        return Profiler(
            jax.profiler.start_trace,
            jax.profiler.stop_trace,
            lambda step: jax.profiler.StepTraceAnnotation("train", step_num=step),
        )
    raise UsageError(f"--trainer.profile true: there is no profile for TensorBoard on the backend {backend}")
