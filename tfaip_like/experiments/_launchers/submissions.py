"""Array jobs that a cluster was given: a durable record of each, written before the cluster is asked.

BATCH/queue/slurm/ID/
  array.sh         the job script; the cluster's jobs are recognised by its path
  submission.json  the runs of each task
  job              number of the array job that owns these runs; written once, by the first process that knows it
  codes/RUN        exit code of a run
  cancelled/RUN    empty: this run is to stop

The submitting process can be killed at any moment. Without `submission.json` nothing was submitted. With it, the
cluster may have the job or not: it is looked up by the path of its script, and `job` is written. If the cluster does
not have it, `job` says so, and nobody owns the runs: should the job still arrive, its tasks see that they do not own
their runs, and end.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_write_text, fsync_directory
from tfaip_like._utils.json_files import read_text, short_json, write_json
from tfaip_like._utils.typed_json import Seconds, read_typed_json
from tfaip_like.experiments._batches.batch import Batch

NO_ARRAY_JOB = "none"
"""Instead of the number of an array job: the cluster does not have it."""

RECORD_FILENAME, SCRIPT_FILENAME = "submission.json", "array.sh"


@dataclass(frozen=True)
class SubmissionRecord:
    """What `submission.json` holds."""

    submitted: Seconds
    script: str
    """Path of the job script, as the cluster was given it."""
    tasks: tuple[tuple[str, ...], ...]
    """The runs of each task of the array, which are trained one after another."""
    user: str | None = None


@dataclass(frozen=True)
class Submission:
    """An array job of a batch, from before the cluster is asked for it."""

    folder: Path
    record: SubmissionRecord

    @property
    def script(self) -> Path:
        """The job script."""
        return self.folder / SCRIPT_FILENAME

    @property
    def array_job(self) -> str | None:
        """Number of the array job; `NO_ARRAY_JOB` if the cluster does not have it, None if that is not known.

        Raises:
            UsageError: if the file that holds it is damaged.
        """
        file = self.folder / "job"
        if not file.exists():
            return None
        text = read_text(file).strip()
        if text != NO_ARRAY_JOB and not re.fullmatch(r"\d+", text):
            raise UsageError(f"{file}, line 1: expected the number of a job, got {short_json(text)}")
        return text

    def claim(self, array: str) -> str:
        """Make an array job the owner of these runs unless another one is; return which one is.

        Args:
            array: its number, or `NO_ARRAY_JOB` so that none can be from now on.
        """
        temporary_path = self.folder / f".job.{os.getpid()}"
        atomic_write_text(temporary_path, f"{array}\n")
        try:
            os.link(temporary_path, self.folder / "job")  # whole or not at all, and never in the place of another one
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if self.array_job is None:
                atomic_write_text(self.folder / "job", f"{array}\n")
        finally:
            temporary_path.unlink()
        fsync_directory(self.folder)
        return self.array_job or array

    def task_ids(self, array: str) -> dict[str, str]:
        """Return what the cluster calls the task of each run, ARRAY_TASK."""
        return {name: f"{array}_{number}" for number, runs in enumerate(self.record.tasks) for name in runs}

    def mark_cancelled(self, name: str) -> None:
        """Mark a run as cancelled. An empty file: there is room for it on a full disk too."""
        (self.folder / "cancelled" / name).touch()

    def cancelled_runs(self) -> set[str]:
        """Return the runs that are to stop."""
        return _list_names(self.folder / "cancelled")

    def ended_runs(self) -> set[str]:
        """Return the runs that have left an exit code."""
        return _list_names(self.folder / "codes")


def _list_names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def submissions_dir(batch: Batch) -> Path:
    """Return the folder of the submissions of a batch."""
    return batch.queue_dir / "slurm"


def record_submission(batch: Batch, tasks: Sequence[Sequence[str]], make_script: Callable[[Path], str]) -> Submission:
    """Write the record of an array job that the cluster is asked for next; called while `batch.lock()`.

    Args:
        make_script: given the folder of the submission, returns its job script.
    """
    folder = submissions_dir(batch) / f"{_next_submission_number(batch)}-{secrets.token_hex(4)}"
    for part in (folder, folder / "codes", folder / "cancelled"):
        part.mkdir(parents=True)
    script = folder.resolve() / SCRIPT_FILENAME
    atomic_write_text(script, make_script(folder.resolve()))
    record = SubmissionRecord(time.time(), str(script), tuple(tuple(runs) for runs in tasks), _user_name())
    write_json(folder / RECORD_FILENAME, dataclasses.asdict(record))
    for parent in (folder.parent, batch.queue_dir):
        fsync_directory(parent)
    return Submission(folder, record)


def _next_submission_number(batch: Batch) -> int:
    numbers = [_submission_number(folder) for folder in submissions_dir(batch).glob("*-*")]
    return 1 + max(numbers, default=0)


def _submission_number(folder: Path) -> int:
    word = folder.name.partition("-")[0]
    return int(word) if word.isdecimal() else 0


def _user_name() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, in a container
        return None


def read_submissions(batch: Batch) -> list[Submission]:
    """Return the submissions of a batch, the first one first.

    Raises:
        UsageError: if a record is damaged; it names the file and the key or line.
    """
    found = []
    for folder in sorted(submissions_dir(batch).glob("*-*"), key=_submission_number):
        if (
            not (folder / RECORD_FILENAME).exists() and not (folder / RECORD_FILENAME).is_symlink()
        ):  # its process was killed before
            continue
        try:
            found.append(Submission(folder, read_typed_json(SubmissionRecord, folder / RECORD_FILENAME)))
        except UsageError as error:
            raise UsageError(
                f"{error}\nWithout the folder {folder} its runs count as not submitted: delete it."
            ) from error
    return found
