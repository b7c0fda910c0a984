"""Updates of the HTML report and of the summaries of validations during training."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tfaip_like._report.run_page import write_report
from tfaip_like._report.summary_store import store_summaries
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import OutputDirLostError
from tfaip_like._utils.console import OnceLogger
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like.summaries import Summary

logger = logging.getLogger(__name__)

MAX_TIME_FRACTION = 0.02
"""Maximum fraction of the training time for updates; short epochs are skipped, the final report never is."""
MAX_UPDATE_INTERVAL_S = 1800.0


class Reporter:
    """Writer of `summaries/` and `report.html`; failures are logged once and never end a training."""

    def __init__(self, output_dir: OutputDir | None):
        self.output_dir = output_dir
        self._pending_summaries: dict[str, Mapping[str, Summary]] = {}
        self._next_update_time = 0.0

    def on_epoch_end(self, summaries: Mapping[str, Mapping[str, Summary]]) -> None:
        """Write the summaries of validations (by prefix), and update the report if it is time.

        Raises:
            OSError: if the disk is full; may be called again.
        """
        self._pending_summaries |= {prefix.removesuffix("_"): shown for prefix, shown in summaries.items()}
        start = time.monotonic()
        if self.output_dir is not None and start >= self._next_update_time:
            self._update(self.output_dir)
            end = time.monotonic()
            # Limited: the process may have been suspended for hours during the update.
            self._next_update_time = end + min((end - start) / MAX_TIME_FRACTION, MAX_UPDATE_INTERVAL_S)

    def close(self) -> None:
        """Write pending summaries; `write_final_report` writes the last report."""
        if self.output_dir is not None and self._pending_summaries:
            with suppress(OutputDirLostError):  # already reported as the reason why the training ends
                best_effort(self.output_dir, self._write_summaries)

    def _update(self, output_dir: OutputDir) -> None:
        best_effort(output_dir, self._write_summaries, raise_disk_full=True)
        best_effort(output_dir, write_report, raise_disk_full=True)

    def _write_summaries(self, output_dir: OutputDir) -> None:
        for kind, shown in list(self._pending_summaries.items()):
            store_summaries(output_dir.summaries / kind, shown)
            del self._pending_summaries[kind]


def write_final_report(output_dir: OutputDir) -> None:
    """Write the report of a run that has ended, successfully or not."""
    best_effort(output_dir, write_report)


_once_logger = OnceLogger(logger)


def best_effort(output_dir: OutputDir, write: Callable[[OutputDir], None], raise_disk_full: bool = False) -> None:
    """Write part of the report; a failure is logged once instead of raised.

    Args:
        output_dir: run directory.
        write: writes to it.
        raise_disk_full: raise if the disk is full, for a caller that waits for space.
    """
    try:
        write(output_dir)
    except OutputDirLostError:
        raise
    except Exception as error:
        if raise_disk_full and is_disk_full_error(error):
            raise
        # Without the path of an OSError: it is a temporary file with a different name each time.
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        _once_logger.warning(f"failed to write {output_dir.report}: {reason}")
        logger.debug("traceback", exc_info=True)
