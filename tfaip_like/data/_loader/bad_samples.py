"""Log of the samples that failed and were skipped: `bad_samples.csv`."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.escaping import escape_csv_cell, unescape_csv_cell
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.data._loader.batching import BadSample

logger = logging.getLogger(__name__)

MAX_WARNINGS = 3
COLUMNS = ["sample", "reason"]


class BadSampleLog:
    """Log of bad samples that stops the run above a limit; an existing list is extended.

    Args:
        file: list to write; None to keep it in memory only.
        limit: maximum number of bad samples.

    Raises:
        UsageError: if the existing list cannot be read.
    """

    def __init__(self, file: Path | None, limit: int):
        self.file = file
        self.limit = limit
        self.samples = {bad.place: bad for bad in self._read_list()}
        self._is_written = True

    def record(self, bad_samples: Sequence[BadSample]) -> None:
        """Record the bad samples of a batch.

        Raises:
            UsageError: if the limit is exceeded.
        """
        new = [bad for bad in bad_samples if bad.place not in self.samples]
        if not new:
            return
        for bad in new:
            self.samples[bad.place] = bad
            if len(self.samples) <= MAX_WARNINGS:
                logger.warning("skipped %s: %s", bad.place, bad.reason)
        self._write(logging.WARNING if self._is_written else logging.DEBUG)
        if len(self.samples) > self.limit:
            first = next(iter(self.samples.values()))
            where = f" (listed in {self.file})" if self.file else ""
            raise UsageError(
                f"--data.max_bad_samples {self.limit} exceeded: {pluralize(len(self.samples), 'bad sample')}{where}.\n"
                f"First: {first.place}: {first.reason}"
            )

    def log_summary(self) -> None:
        """Log the number of bad samples."""
        if not self._is_written:
            self._write(logging.WARNING)
        if self.samples:
            where = f" (listed in {self.file})" if self.file else ""
            logger.warning("skipped %s%s", pluralize(len(self.samples), "bad sample"), where)

    def _read_list(self) -> list[BadSample]:
        if self.file is None or not os.path.lexists(self.file):
            return []
        try:
            text = self.file.read_bytes().decode("utf-8", "surrogateescape")  # like file names
        except OSError as error:
            raise UsageError(f"{self.file}: cannot be read: {error.strerror}") from error
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = []
        try:
            for cells in reader:
                if len(cells) != len(COLUMNS) or (reader.line_num == 1) != (cells == COLUMNS):
                    expected = "the columns sample and reason" if reader.line_num == 1 else "a sample and a reason"
                    raise UsageError(
                        f"{self.file}, line {reader.line_num}: expected {expected}; fix or delete the line"
                    )
                rows.append(BadSample(-1, unescape_csv_cell(cells[0]), unescape_csv_cell(cells[1])))
        except csv.Error as error:
            raise UsageError(f"{self.file}, line {reader.line_num}: not valid CSV: {error}") from error
        if not rows:
            raise UsageError(f"{self.file}, line 1: empty file; restore it, or delete it to start a new list")
        return rows[1:]

    def _write(self, level: int) -> None:
        """Write the list; log disk errors, because a later call writes the whole list again."""
        if self.file is None:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((escape_csv_cell(bad.place), escape_csv_cell(bad.reason)) for bad in self.samples.values())
        try:
            atomic_write_text(self.file, text.getvalue())
        except OSError as error:
            self._is_written = False
            logger.log(level, "%s: %s; retrying later", self.file, error.strerror)
        else:
            self._is_written = True
