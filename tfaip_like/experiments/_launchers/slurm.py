"""Client of SLURM's command-line tools: submit, query and cancel array jobs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import read_text, short_json
from tfaip_like._utils.processes import run_with_timeout
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._launchers.submissions import NO_ARRAY_JOB, Submission, read_submissions, submissions_dir
from tfaip_like.experiments._launchers.tickets import Ticket

DEFAULT_MAX_ARRAY_SIZE = 1000
"""Maximum number of tasks of an array, if the cluster does not report its limit."""

QUERY_TIMEOUT_S = 30

NORMAL_PENDING_REASONS = (
    "",
    "None",
    "Priority",
    "Resources",
    "JobArrayTaskLimit",
    "BeginTime",
    "Dependency",
    "Cleaning",
)
"""Pending reasons that need no attention."""


def require_slurm() -> None:
    """Raise `UsageError` if sbatch is not installed."""
    if shutil.which("sbatch") is None:
        raise UsageError("--slurm: sbatch not found; log in to a cluster, or omit --slurm")


def read_max_array_size() -> int:
    """Return the maximum number of tasks of an array."""
    done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    return max(1, min(DEFAULT_MAX_ARRAY_SIZE, int(match[1]))) if match else DEFAULT_MAX_ARRAY_SIZE


def submit_job_script(submission: Submission, lock: int) -> str:
    """Submit the job script of a submission to the cluster.

    Args:
        submission: submission whose record is written.
        lock: descriptor of the batch lock. sbatch inherits it: if this process is killed, no other process concludes
            that the cluster does not have the job while sbatch is still submitting it.

    Returns:
        The number of the array job.

    Raises:
        UsageError: if the cluster rejects the job.
    """
    words = ["sbatch", "--parsable", submission.record.script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, pass_fds=[lock])
    array = done.stdout.strip().split(";")[0]
    if done.returncode:  # the job may have been accepted nevertheless
        array = (query_arrays_by_script() or {}).get(submission.record.script, NO_ARRAY_JOB)
    owner = submission.claim(array)
    if owner == NO_ARRAY_JOB:
        raise UsageError(f"sbatch: {done.stderr.strip() or 'failed'}\n(the script is {submission.script})")
    if owner != array:  # on a file system without locks, another process was faster
        cancel_jobs([array])
    return owner


def query_arrays_by_script() -> dict[str, str] | None:
    """Return the numbers of the array jobs on the cluster by script path; None if the query fails."""
    try:
        done = run_with_timeout(QUERY_TIMEOUT_S, "squeue", "--noheader", "--states=all", "--format=%F|%o")
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return None
    lines = done.stdout.decode(errors="surrogateescape").splitlines()
    return {script: job for job, _, script in (line.strip().partition("|") for line in lines)}


def resolve_interrupted_submissions(batch: Batch) -> None:
    """Determine the outcome of submissions whose process was killed; the caller holds `batch.lock()`.

    Raises:
        UsageError: if there are any, and the cluster cannot be queried.
    """
    interrupted = [submission for submission in read_submissions(batch) if submission.array_job is None]
    if not interrupted:
        return
    arrays = query_arrays_by_script()
    if arrays is None:
        raise UsageError(
            f"{interrupted[0].folder}: this submission was interrupted, and squeue failed to report whether the "
            "cluster has the job; retry on a machine with access to the cluster"
        )
    for submission in interrupted:
        submission.claim(arrays.get(submission.record.script, NO_ARRAY_JOB))


@dataclass(frozen=True)
class ClusterJob:
    """Status of an array task, as squeue reports it."""

    state: str
    node: str | None = None
    pending_reason: str = ""
    """Reason code of a pending job, such as `Priority`."""
    name: str | None = None

    @property
    def unusual_pending_reason(self) -> str:
        """Return the pending reason if it needs attention; an empty string otherwise."""
        return "" if self.pending_reason in NORMAL_PENDING_REASONS else f"pending: {self.pending_reason}"

    @property
    def is_pending(self) -> bool:
        """Return whether the job waits to be started, for the first time or again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "PREEMPTED", "SPECIAL_EXIT")

    @property
    def is_finished(self) -> bool:
        """Return whether the job has ended and will not be restarted."""
        return not self.is_pending and self.state not in (
            "RUNNING",
            "CONFIGURING",
            "COMPLETING",
            "RESIZING",
            "SIGNALING",
            "STAGE_OUT",
            "STOPPED",
            "SUSPENDED",
        )

    @property
    def reason(self) -> str:
        """Return the reason why the cluster ended the job; an empty string if there is none."""
        return {
            "TIMEOUT": "time limit exceeded (--time)",
            "OUT_OF_MEMORY": "memory limit exceeded (--mem)",
            "NODE_FAIL": "node failure",
            "BOOT_FAIL": "node failed to boot",
            "DEADLINE": "deadline missed",
        }.get(self.state, "")


def query_cluster_jobs(wanted: Iterable[str]) -> dict[str, ClusterJob] | None:
    """Return the jobs that squeue lists, by ARRAY_TASK; None if the query fails.

    squeue lists finished jobs for some minutes only, and not every cluster has accounting, so the outcome of a run is
    read from its files.

    Args:
        wanted: jobs to query, as ARRAY_TASK.
    """
    arrays = sorted({job.partition("_")[0] for job in wanted})
    if not arrays:
        return {}
    # By number instead of by user: the batch may belong to another user.
    which = f"--jobs={','.join(arrays)}"
    words = ["squeue", "--noheader", which, "--array", "--states=all", "--format=%F_%K|%T|%N|%r|%j"]
    try:
        done = run_with_timeout(QUERY_TIMEOUT_S, *words)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return {} if b"Invalid job id" in done.stderr else None  # a single job that squeue no longer lists
    jobs = {}
    for line in done.stdout.decode().splitlines():
        job, state, node, reason, name = line.strip().split("|", 4)
        jobs[job] = ClusterJob(state, node or None, reason, name)
    return jobs


def read_last_slurm_error(batch: Batch, job: str) -> str:
    """Return the last error that SLURM wrote to the output of a job; errors about memory take precedence."""
    try:
        text = (batch.path / "logs" / f"slurm-{job}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    errors = [line.partition("error: ")[2].strip() for line in text.splitlines() if "error: " in line]
    memory_errors = [line for line in errors if "memory" in line.lower()]
    return (memory_errors or errors or [""])[-1]


def read_exit_code(batch: Batch, ticket: Ticket, name: str) -> int | None:
    """Return the exit code of a run on the cluster; None if it has not exited.

    Args:
        batch: batch of the run.
        ticket: ticket of the run, which names the submission.
        name: name of the run.

    Raises:
        UsageError: if the file with the exit code is damaged.
    """
    file = submissions_dir(batch) / (ticket.submission or "") / "codes" / name
    if not file.exists():
        return None
    text = read_text(file).strip()
    if text and not re.fullmatch(r"\d{1,3}", text):
        raise UsageError(f"{file}, line 1: expected an exit code, got {short_json(text)}")
    return int(text) if text else None  # empty while it is written, or on a full disk


def cancel_jobs(jobs: Iterable[str]) -> str:
    """Cancel jobs on the cluster, including running ones.

    Returns:
        The error message if some could not be cancelled; otherwise an empty string.
    """
    words = list(jobs)
    if not words:
        return ""
    try:
        done = subprocess.run(["scancel", *words], capture_output=True, text=True, check=False)
    except OSError:
        return "scancel not found"
    errors = done.stderr.strip().splitlines()
    return f"scancel: {errors[0] if errors else 'failed'}" if done.returncode or errors else ""
