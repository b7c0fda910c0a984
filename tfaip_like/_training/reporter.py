"""Keeps the report of a run, and what its validations showed, up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tfaip_like._report.page import write_report
from tfaip_like._report.summary_store import keep
from tfaip_like._runs.output_dir import OutputDir, OutputDirLostError
from tfaip_like._utils.files import is_full_disk
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

PART_OF_THE_TIME = 0.02
"""That it takes at most: after short epochs it is not written each time, but always at the end."""
MOST_SECONDS_BETWEEN = 1800.0


class Reporter:
    """Writes `summaries/` and `report.html`; a fault in doing so is told once and never ends a training."""

    def __init__(self, folder: OutputDir | None):
        self.folder = folder
        self._waiting: dict[str, Mapping[str, Summary]] = {}
        self._not_before = 0.0

    def after_epoch(self, summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        """Notes what validations showed, by their prefix, and brings the report up to date.

        Raises:
            OSError: when the disk is full; it may be called again.
        """
        self._waiting |= {prefix.removesuffix("_"): shown for prefix, shown in summaries.items()}
        begin = time.monotonic()
        if self.folder is not None and begin >= self._not_before:
            self._update(self.folder)
            end = time.monotonic()
            # At most: if the process was suspended while it wrote, that would take days.
            self._not_before = end + min((end - begin) / PART_OF_THE_TIME, MOST_SECONDS_BETWEEN)

    def close(self) -> None:
        """Writes what validations showed and is not on disk yet; the last report is written by `last_report`."""
        if self.folder is not None and self._waiting:
            with suppress(OutputDirLostError):  # which is why the training ends
                told_only(self.folder, self._keep)

    def _update(self, folder: OutputDir) -> None:
        told_only(folder, self._keep, waits=True)
        told_only(folder, write_report, waits=True)

    def _keep(self, folder: OutputDir) -> None:
        for kind, shown in list(self._waiting.items()):
            keep(folder.summaries / kind, shown)
            del self._waiting[kind]


def last_report(folder: OutputDir) -> None:
    """Writes the report of a run that has ended in whatever way."""
    told_only(folder, write_report)


_told: set[str] = set()


def told_only(folder: OutputDir, write: Callable[[OutputDir], None], waits: bool = False) -> None:
    """Writes something for the report; a fault in that is told once, not raised.

    Args:
        waits: whether somebody above waits for room on a full disk, which is raised then.
    """
    try:
        write(folder)
    except OutputDirLostError:
        raise
    except Exception as error:
        if waits and is_full_disk(error):
            raise
        # Without the path of an OSError, which is that of a file aside and another one each time.
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        message = f"{folder.report} is not complete: {reason}"
        if message not in _told:
            _told.add(message)
            logger.warning("%s", message)
            logger.debug("the report failed", exc_info=True)
