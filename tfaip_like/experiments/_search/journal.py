"""Journal file in which Optuna stores the trials of a search."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Required, TypedDict

from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.files import check_links
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.typed_json import Count, decode


class _JournalEntry(TypedDict, total=False):
    """Line of Optuna's journal; the known keys."""

    op_code: Required[Count]
    worker_id: Required[str]
    study_name: str
    study_id: Count
    trial_id: Count
    directions: list[Count]
    param_name: str
    param_value_internal: float
    distribution: str
    state: Count
    values: list[float] | None
    step: Count
    intermediate_value: float | None
    user_attr: dict[str, Json]
    system_attr: dict[str, Json]
    datetime_start: str
    datetime_complete: str


@contextmanager
def open_journal(file: Path) -> Iterator[Any]:
    """Open Optuna's journal for the length of the block.

    Raises:
        UsageError: if a line is damaged; it names the file and the line.
    """
    from optuna.storages.journal import JournalFileBackend

    check_links(file)  # Optuna would start a new journal at the target of the link

    class Journal(JournalFileBackend):
        num_read = 0
        is_reading = False

        def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
            self.is_reading = True
            for number, log in enumerate(super().read_logs(log_number_from), log_number_from + 1):
                self.num_read = number
                entry = decode(_JournalEntry, log, f"{file}, line {number}")
                if entry.get("values") == []:
                    raise UsageError(f"{file}, line {number}: values: expected a number, got []")
                self.is_reading = False
                yield log
                self.is_reading = True
            self.is_reading = False

    try:
        yield (journal := Journal(str(file)))
    except UsageError:
        raise
    except Exception as error:  # Optuna raises various exceptions for a damaged journal
        line = journal.num_read + journal.is_reading
        raise UsageError(
            f"{file}, line {line}: cannot be read: {type(error).__name__}: {short_error_message(error)}"
        ) from error


def remove_leftovers(journal: Path) -> None:
    """Remove the leftovers of a killed search: its lock and an incomplete last line."""
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)
    content = journal.read_bytes()
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
