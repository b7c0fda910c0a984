"""Durable records of array jobs, written before the jobs are submitted.

BATCH/queue/submissions/ID/
  array.sh         job script; its path identifies the job on the cluster
  submission.json  launcher, and the runs of each task
  job              ID of the job that owns these runs; written once, by the first process that knows it
  codes/RUN        exit code of a run
  cancelled/RUN    empty; marks a run as cancelled

The submitting process can be killed at any time. Without `submission.json` nothing was submitted. With it, the cluster
may or may not have the job: it is looked up by the path of its script, and `job` is written. If the cluster does not
have it, `job` contains `NO_ARRAY_JOB`: a job that starts later finds that it does not own its runs, and exits.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.files import atomic_write_text, fsync_directory
from tfaip_like._utils.json_files import Json, read_text, short_json
from tfaip_like._utils.typed_json import Seconds
from tfaip_like.experiments._batches.batch import Batch

NO_ARRAY_JOB = "none"
"""Value in place of the number of an array job that the cluster does not have."""

JOB_ID_PATTERN = re.compile(r"[\w.@:\[\]-]+")

RECORD_FILENAME, SCRIPT_FILENAME = "submission.json", "array.sh"


@dataclass(frozen=True)
class SubmissionRecord:
    """Contents of `submission.json`."""

    submitted: Seconds
    """Time of the submission (Unix time)."""
    launcher: Mapping[str, Json]
    """Launcher with its parameters, see `load_launcher`."""
    script: str
    """Path of the job script, as it was passed to the cluster."""
    tasks: tuple[tuple[str, ...], ...]
    """Names of the runs that each task trains sequentially."""
    task_id: str = "{job}_{task}"
    """Format of the job ID of a task."""
    user: str | None = None

    def __post_init__(self) -> None:
        try:
            self.task_id.format(job="1", task=0)
        except (ValueError, LookupError, AttributeError):
            raise ValueError(f"task_id: expected a format of {{job}} and {{task}}, got {self.task_id!r}") from None


RECORD_FORMAT = FileFormat("submission", SubmissionRecord)


@dataclass(frozen=True)
class Submission:
    """Submission of an array job, which the cluster may not have yet."""

    folder: Path
    record: SubmissionRecord

    @property
    def script(self) -> Path:
        """Return the path of the job script."""
        return self.folder / SCRIPT_FILENAME

    @property
    def array_job(self) -> str | None:
        """Return the number of the array job; `NO_ARRAY_JOB` if the cluster does not have it, None if unknown.

        Raises:
            UsageError: if the file with the number is damaged.
        """
        file = self.folder / "job"
        if not os.path.lexists(file):
            return None
        text = read_text(file).strip()
        if text != NO_ARRAY_JOB and not JOB_ID_PATTERN.fullmatch(text):
            raise UsageError(f"{file}, line 1: expected a job ID, got {short_json(text)}")
        return text

    def claim(self, array: str) -> str:
        """Make an array job the owner of these runs, unless there is one already; return the owner.

        Args:
            array: number of the array job, or `NO_ARRAY_JOB` to prevent any job from becoming the owner.
        """
        temporary_path = self.folder / f".job.{os.getpid()}"
        atomic_write_text(temporary_path, f"{array}\n")
        try:
            os.link(temporary_path, self.folder / "job")  # atomic, and never replaces an existing file
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if self.array_job is None:
                atomic_write_text(self.folder / "job", f"{array}\n")
        finally:
            temporary_path.unlink()
        fsync_directory(self.folder)
        return self.array_job or array

    def task_ids(self, array: str) -> dict[str, str]:
        """Return the job ID of each run, in the format of the launcher (ARRAY_TASK on SLURM)."""
        tasks = enumerate(self.record.tasks)
        return {name: self.record.task_id.format(job=array, task=number) for number, runs in tasks for name in runs}

    def mark_cancelled(self, name: str) -> None:
        """Mark a run as cancelled, with an empty file, which a full disk allows too."""
        (self.folder / "cancelled" / name).touch()

    def cancelled_runs(self) -> set[str]:
        """Return the runs that are marked as cancelled."""
        return _list_names(self.folder / "cancelled")

    def ended_runs(self) -> set[str]:
        """Return the runs with an exit code."""
        return _list_names(self.folder / "codes")


def _list_names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def submissions_dir(batch: Batch) -> Path:
    """Return the directory of the submissions of a batch."""
    return batch.queue_dir / "submissions"


def record_submission(
    batch: Batch,
    tasks: Sequence[Sequence[str]],
    make_script: Callable[[Path], str],
    launcher: Mapping[str, Json],
    task_id: str,
) -> Submission:
    """Write the record of an array job, before it is submitted; the caller holds `batch.lock()`.

    Args:
        batch: batch of the runs.
        tasks: names of the runs that each task trains sequentially.
        make_script: function that returns the job script for the directory of a submission.
        launcher: launcher with its parameters.
        task_id: format of the job ID of a task.
    """
    folder = submissions_dir(batch) / f"{_next_submission_number(batch)}-{secrets.token_hex(4)}"
    for part in (folder, folder / "codes", folder / "cancelled"):
        part.mkdir(parents=True)
    script = folder.resolve() / SCRIPT_FILENAME
    atomic_write_text(script, make_script(folder.resolve()))
    record = SubmissionRecord(
        submitted=time.time(),
        launcher=launcher,
        script=str(script),
        tasks=tuple(tuple(runs) for runs in tasks),
        task_id=task_id,
        user=_user_name(),
    )
    RECORD_FORMAT.write(folder / RECORD_FILENAME, record)
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
    except (KeyError, OSError):  # a user ID without a name, in a container
        return None


def read_submissions(batch: Batch) -> list[Submission]:
    """Return the submissions of a batch, oldest first.

    Raises:
        UsageError: if a record is damaged; it names the file and the key or line.
    """
    submissions = []
    for folder in sorted(submissions_dir(batch).glob("*-*"), key=_submission_number):
        record = folder / RECORD_FILENAME
        if not os.path.lexists(record):  # the submitting process was killed
            continue
        try:
            submissions.append(Submission(folder, RECORD_FORMAT.read(record)))
        except UsageError as error:
            raise UsageError(f"{error}\nDelete {folder} to mark its runs as not submitted.") from error
    return submissions
