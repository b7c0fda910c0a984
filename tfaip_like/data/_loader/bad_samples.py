"""The samples that were left out of a run because they could not be made: `bad_samples.csv`."""

from __future__ import annotations

import csv
import io
import logging
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
    """Counts and lists them, and stops the run when they are too many; goes on with the list that is there."""

    def __init__(self, file: Path | None, limit: int):
        self.file = file
        self.limit = limit
        self.found = {bad.place: bad for bad in self._read_list()}
        self._is_written = True

    def record(self, found: Sequence[BadSample]) -> None:
        """Take the bad samples of a batch.

        Raises:
            UsageError: when there are more than the limit by now.
        """
        new = [bad for bad in found if bad.place not in self.found]
        if not new:
            return
        for bad in new:
            self.found[bad.place] = bad
            if len(self.found) <= MAX_WARNINGS:
                logger.warning("left out %s: %s", bad.place, bad.reason)
        self._write(logging.WARNING if self._is_written else logging.DEBUG)
        if len(self.found) > self.limit:
            first = next(iter(self.found.values()))
            where = f"; all are listed in {self.file}" if self.file else ""
            raise UsageError(
                f"{pluralize(len(self.found), 'bad sample')}, more than --data.max_bad_samples {self.limit}{where}.\n"
                f"The first is {first.place}: {first.reason}"
            )

    def log_summary(self) -> None:
        """Says how many there were."""
        if not self._is_written:
            self._write(logging.WARNING)
        if self.found:
            where = f", listed in {self.file}" if self.file else ""
            logger.warning("%s left out%s", pluralize(len(self.found), "bad sample"), where)

    def _read_list(self) -> list[BadSample]:
        if self.file is None or not self.file.exists():
            return []
        try:
            text = self.file.read_bytes().decode("utf-8", "surrogateescape")  # as names of files are
        except OSError as error:
            raise UsageError(f"{self.file}: cannot be read: {error.strerror}") from error
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        found = []
        try:
            for cells in reader:
                if len(cells) != len(COLUMNS) or (reader.line_num == 1) != (cells == COLUMNS):
                    expected = "the columns sample and reason" if reader.line_num == 1 else "a sample and a reason"
                    raise UsageError(
                        f"{self.file}, line {reader.line_num}: expected {expected}; fix or delete the line"
                    )
                found.append(BadSample(-1, unescape_csv_cell(cells[0]), unescape_csv_cell(cells[1])))
        except csv.Error as error:
            raise UsageError(f"{self.file}, line {reader.line_num}: not valid CSV: {error}") from error
        return found[1:]

    def _write(self, level: int) -> None:
        """Write the list; a disk that is full or fails is logged, because a later call writes all of it."""
        if self.file is None:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((escape_csv_cell(bad.place), escape_csv_cell(bad.reason)) for bad in self.found.values())
        try:
            atomic_write_text(self.file, text.getvalue())
        except OSError as error:
            self._is_written = False
            logger.log(level, "%s: %s; it is written again later", self.file, error.strerror)
        else:
            self._is_written = True
