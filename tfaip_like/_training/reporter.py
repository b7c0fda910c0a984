"""Keeps the report of a run, and what its validations showed, up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tfaip_like._report.run_page import write_report
from tfaip_like._report.summary_store import store_summaries
from tfaip_like._runs.output_dir import OutputDir, OutputDirLostError
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

MAX_TIME_FRACTION = 0.02
"""That it takes at most: after short epochs it is not written each time, but always at the end."""
MAX_UPDATE_INTERVAL_S = 1800.0


class Reporter:
    """Writes `summaries/` and `report.html`; a fault in doing so is told once and never ends a training."""

    def __init__(self, output_dir: OutputDir | None):
        self.output_dir = output_dir
        self._pending_summaries: dict[str, Mapping[str, Summary]] = {}
        self._next_update_time = 0.0

    def on_epoch_end(self, summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        """Notes what validations showed, by their prefix, and brings the report up to date.

        Raises:
            OSError: when the disk is full; it may be called again.
        """
        self._pending_summaries |= {prefix.removesuffix("_"): shown for prefix, shown in summaries.items()}
        begin = time.monotonic()
        if self.output_dir is not None and begin >= self._next_update_time:
            self._update(self.output_dir)
            end = time.monotonic()
            # At most: if the process was suspended while it wrote, that would take days.
            self._next_update_time = end + min((end - begin) / MAX_TIME_FRACTION, MAX_UPDATE_INTERVAL_S)

    def close(self) -> None:
        """Writes what validations showed and is not on disk yet; the last report is written by `write_final_report`."""
        if self.output_dir is not None and self._pending_summaries:
            with suppress(OutputDirLostError):  # which is why the training ends
                best_effort(self.output_dir, self._write_summaries)

    def _update(self, output_dir: OutputDir) -> None:
        best_effort(output_dir, self._write_summaries, raise_disk_full=True)
        best_effort(output_dir, write_report, raise_disk_full=True)

    def _write_summaries(self, output_dir: OutputDir) -> None:
        for kind, shown in list(self._pending_summaries.items()):
            store_summaries(output_dir.summaries / kind, shown)
            del self._pending_summaries[kind]


def write_final_report(output_dir: OutputDir) -> None:
    """Writes the report of a run that has ended in whatever way."""
    best_effort(output_dir, write_report)


_logged_messages: set[str] = set()


def best_effort(output_dir: OutputDir, write: Callable[[OutputDir], None], raise_disk_full: bool = False) -> None:
    """Writes something for the report; a fault in that is told once, not raised.

    Args:
        raise_disk_full: whether a caller raise_disk_full for room on a full disk, which is raised then.
    """
    try:
        write(output_dir)
    except OutputDirLostError:
        raise
    except Exception as error:
        if raise_disk_full and is_disk_full_error(error):
            raise
        # Without the path of an OSError, which is that of a file aside and another one each time.
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        message = f"{output_dir.report} is not complete: {reason}"
        if message not in _logged_messages:
            _logged_messages.add(message)
            logger.warning("%s", message)
            logger.debug("the report failed", exc_info=True)
