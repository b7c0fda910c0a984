"""How far a training is: a bar over the whole run in a terminal, a line now and then without one."""

from __future__ import annotations

import logging
import sys
import time
from typing import IO, Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows steps done, epoch, loss and the time left for the whole run.

    Args:
        steps: steps of the whole run.
        done: steps that were done before (resume).
    """

    def __init__(self, steps: int, epochs: int, done: int = 0, stream: IO[str] | None = None):
        self.steps = steps
        self.epochs = epochs
        self.done = self._done_before = done
        self._begin = self._last_line = time.monotonic()
        stream = stream or sys.stderr
        self._bar: Any = None
        if stream.isatty():
            self._bar = tqdm(
                total=steps,
                initial=done,
                unit="step",
                file=stream,
                dynamic_ncols=True,
                smoothing=0.1,
                leave=False,
                bar_format="{desc} {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt}, {remaining} left{postfix}",
            )

    def show(self, done: int, epoch: int, loss: float) -> None:
        """Steps done in the whole run, the running epoch (from 1) and its mean loss so far."""
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
            self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            self._bar.update(done - self.done)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            logger.info(
                "epoch %d/%d, step %d/%d, loss %.4g, %s left",
                epoch,
                self.epochs,
                done,
                self.steps,
                loss,
                self._left(done),
            )
        self.done = done

    def _left(self, done: int) -> str:
        rate = (done - self._done_before) / (time.monotonic() - self._begin)
        return str(tqdm.format_interval((self.steps - done) / rate))

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
