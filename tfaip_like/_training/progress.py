"""How far a training is: a bar over the whole run in a terminal, a line now and then without one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_REFRESHES = 0.5
OTHER = "other"
"""What is done at the end of each epoch that is no validation: exports, checkpoints, the report."""
WEIGHT_OF_LATEST = 0.3
"""In the averages of what a step, a validation and the rest take."""


class TimeLeft:
    """Time that a training still takes, from what its steps and each kind of its validations took so far.

    Args:
        due: returns the names of the validations after an epoch, which counts from 1.

    Example:
        >>> left = TimeLeft(steps_per_epoch=10, epochs=2, due=lambda epoch: ["val_"])
        >>> left.measured_steps(10, 5.0)
        >>> left.measured("val_", 2.0)
        >>> left.seconds(done=10, epoch=1)  # five seconds of steps and two validations
        9.0
    """

    def __init__(self, steps_per_epoch: int, epochs: int, due: Callable[[int], Sequence[str]] = lambda epoch: ()):
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._due = due
        self._of_a_step: float | None = None
        self._of: dict[str, float] = {}
        self._num_measured = 0

    def measured_steps(self, steps: int, seconds: float) -> None:
        """Record how long some steps took; the first ones, which compile, only count until there are others."""
        before = self._of_a_step if self._num_measured > 1 else None
        self._of_a_step = _averaged(before, seconds / steps)
        self._num_measured += 1

    def measured(self, name: str, seconds: float) -> None:
        """Record how long a validation, or all else at the end of an epoch (`OTHER`), took."""
        self._of[name] = _averaged(self._of.get(name), seconds)

    def of(self, name: str) -> float | None:
        """Return how long a validation takes; None if that is not known yet."""
        return self._of.get(name)

    def seconds(self, done: int, epoch: int, finished: Sequence[str] = ()) -> float | None:
        """Return the seconds that are left; None if no step was measured.

        Args:
            done: steps of the whole run that are done.
            epoch: the running one; its end counts.
            finished: validations of its end that are done.
        """
        if self._of_a_step is None:
            return None
        left = (self._steps_per_epoch * self._epochs - done) * self._of_a_step
        for ending in range(epoch, self._epochs + 1):
            names = [name for name in (*self._due(ending), OTHER) if ending > epoch or name not in finished]
            left += sum(self._of.get(name, 0.0) for name in names)
        return left


def _averaged(before: float | None, latest: float) -> float:
    return latest if before is None else before + WEIGHT_OF_LATEST * (latest - before)


class Progress:
    """Shows steps done, epoch, loss or validation, and the time left for the whole run.

    Args:
        steps_per_epoch: steps of each epoch.
        done: steps that were done before (resume).
        due: returns the names of the validations after an epoch, which counts from 1.
    """

    def __init__(
        self,
        steps_per_epoch: int,
        epochs: int,
        done: int = 0,
        due: Callable[[int], Sequence[str]] = lambda epoch: (),
        stream: IO[str] | None = None,
    ):
        self.steps_per_epoch = steps_per_epoch
        self.steps = steps_per_epoch * epochs
        self.epochs = epochs
        self.done = done
        self.left = TimeLeft(steps_per_epoch, epochs, due)
        self._clock = time.monotonic
        self._since = self._last_shown = self._clock()
        self._running: str | None = None
        self._finished: list[str] = []
        self._validated = 0.0
        """Seconds of validations at the end of the running epoch."""
        self._epoch = 1
        """The running one."""
        stream = stream or sys.stderr
        self._bar: Any = None
        if stream.isatty():
            self._bar = tqdm(
                total=self.steps,
                initial=done,
                unit="step",
                file=stream,
                dynamic_ncols=True,
                leave=False,
                bar_format="{desc} {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt}{postfix}",
            )

    def show(self, done: int, epoch: int, loss: float) -> None:
        """Show steps done in the whole run, the running epoch (from 1) and its mean loss so far."""
        now = self._clock()
        if done > self.done:
            self.left.measured_steps(done - self.done, now - self._since)
        self._since, self._epoch = now, epoch
        self._show(done, f"loss {loss:.4g}")

    @contextmanager
    def end_of_epoch(self, epoch: int) -> Iterator[None]:
        """Measure what follows the steps of an epoch, for the length of the block."""
        self._epoch, self._validated, begin = epoch, 0.0, self._clock()
        try:
            yield
            self.left.measured(OTHER, self._clock() - begin - self._validated)
        finally:
            self._finished, self._since = [], self._clock()

    @contextmanager
    def validation(self, name: str) -> Iterator[None]:
        """Show and measure a validation, for the length of the block.

        Args:
            name: the prefix of its values: `val_`, `lav_`.
        """
        self._running, self._since = name, self._clock()
        self.look(is_forced=self._bar is not None)
        try:
            yield
            seconds = self._clock() - self._since
            self.left.measured(name, seconds)
            self._validated += seconds
            self._finished.append(name)
        finally:
            self._running = None

    def look(self, is_forced: bool = False) -> None:
        """Show how far a running validation is; called wherever a training looks for signals."""
        if self._running is None:
            return
        interval = SECONDS_BETWEEN_LINES if self._bar is None else SECONDS_BETWEEN_REFRESHES
        if is_forced or self._clock() - self._last_shown > interval:
            seconds, usual = self._clock() - self._since, self.left.of(self._running)
            of_usual = f" of about {usual:.0f}" if usual is not None else ""
            name = self._running.removesuffix("_")
            self._show(self.done, f"validating ({name}) {seconds:.0f}{of_usual} s")

    def _show(self, done: int, state: str) -> None:
        """Bring the bar up to date, or log a line if there was none for a while."""
        now, epoch = self._clock(), f"epoch {self._epoch}/{self.epochs}"
        if self._bar is not None:
            self._bar.set_description_str(epoch, refresh=False)
            self._bar.set_postfix_str(f"{state}, {self._left(done)}", refresh=False)
            self._bar.update(done - self.done)
            if self._running is not None:
                self._bar.refresh()
            self._last_shown = now
        elif now - self._last_shown > SECONDS_BETWEEN_LINES:
            self._last_shown = now
            logger.info("%s, step %d/%d, %s, %s", epoch, done, self.steps, state, self._left(done))
        self.done = done

    def _left(self, done: int) -> str:
        seconds = self.left.seconds(done, self._epoch, self._finished)
        if seconds is None:
            return "time left unknown"
        if self._running is not None:  # a part of it is over
            seconds -= min(self.left.of(self._running) or 0.0, self._clock() - self._since)
        return f"{tqdm.format_interval(max(0.0, seconds))} left"

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
