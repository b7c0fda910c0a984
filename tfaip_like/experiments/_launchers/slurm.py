"""Interface to SLURM: submit, query and cancel array jobs."""

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
"""Runs in one array job, where the cluster does not say how many it allows."""

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
"""Why jobs wait on every cluster."""


def require_slurm() -> None:
    """Raises `UsageError` if jobs cannot be handed in from here."""
    if shutil.which("sbatch") is None:
        raise UsageError("--slurm: there is no sbatch on this machine; log in to a cluster, or leave --slurm out")


def read_max_array_size() -> int:
    """Return how many tasks an array may have."""
    done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False)
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    return max(1, min(DEFAULT_MAX_ARRAY_SIZE, int(match[1]))) if match else DEFAULT_MAX_ARRAY_SIZE


def submit_job_script(submission: Submission, lock: int) -> str:
    """Hand the job script of a submission to the cluster.

    Args:
        lock: a descriptor of the lock of the batch, which sbatch keeps too: should this process be killed, nobody
            decides that the cluster does not have the job while sbatch is still about to hand it over.

    Returns:
        The number of the array job.

    Raises:
        UsageError: when the cluster does not take it.
    """
    words = ["sbatch", "--parsable", submission.record.script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, pass_fds=[lock])
    array = done.stdout.strip().split(";")[0]
    if done.returncode:  # it may have lost only the answer
        array = (query_arrays_by_script() or {}).get(submission.record.script, NO_ARRAY_JOB)
    owner = submission.claim(array)
    if owner == NO_ARRAY_JOB:
        raise UsageError(f"sbatch: {done.stderr.strip() or 'failed'}\n(the script is {submission.script})")
    if owner != array:  # without locks somebody else has decided meanwhile
        cancel_jobs([array])
    return owner


def query_arrays_by_script() -> dict[str, str] | None:
    """Return the array jobs that the cluster knows by the paths of their scripts; None if it cannot be asked."""
    try:
        done = run_with_timeout(QUERY_TIMEOUT_S, "squeue", "--noheader", "--states=all", "--format=%F|%o")
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return None
    lines = done.stdout.decode(errors="surrogateescape").splitlines()
    return {script: job for job, _, script in (line.strip().partition("|") for line in lines)}


def resolve_interrupted_submissions(batch: Batch) -> None:
    """Find out what became of submissions whose process was killed; to be called while `batch.lock()`.

    Raises:
        UsageError: when there are any, and the cluster cannot be asked.
    """
    interrupted = [one for one in read_submissions(batch) if one.array_job is None]
    if not interrupted:
        return
    arrays = query_arrays_by_script()
    if arrays is None:
        raise UsageError(
            f"{interrupted[0].folder}: this submission was interrupted, and the cluster, which may have got it, cannot "
            "be asked from here; try again where squeue answers"
        )
    for submission in interrupted:
        submission.claim(arrays.get(submission.record.script, NO_ARRAY_JOB))


@dataclass(frozen=True)
class ClusterJob:
    """What the cluster says about a run."""

    state: str
    node: str | None = None
    pending_reason: str = ""
    """Why it waits, as the cluster calls it."""
    name: str | None = None

    @property
    def unusual_pending_reason(self) -> str:
        """Why it waits, if that is not only for its turn."""
        return "" if self.pending_reason in NORMAL_PENDING_REASONS else f"the cluster says: {self.pending_reason}"

    @property
    def is_pending(self) -> bool:
        """Return whether it is to be started, maybe again."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "PREEMPTED", "SPECIAL_EXIT")

    @property
    def is_finished(self) -> bool:
        """Return whether it will not be at work again."""
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
        """Why the cluster ended it."""
        return {
            "TIMEOUT": "killed at its time limit",
            "OUT_OF_MEMORY": "killed: it took more memory than it had asked for (--mem)",
            "NODE_FAIL": "its node failed",
            "BOOT_FAIL": "its node did not start",
            "DEADLINE": "its deadline has passed",
        }.get(self.state, "")


def query_cluster_jobs(wanted: Iterable[str]) -> dict[str, ClusterJob] | None:
    """The jobs that the cluster still knows, by ARRAY_TASK; None if it cannot be asked.

    Finished ones are forgotten after some minutes, and accounting is not everywhere: what became of a run is
    read from its own files.
    """
    arrays = sorted({job.partition("_")[0] for job in wanted})
    if not arrays:
        return {}
    # By their numbers: a batch may be that of somebody else.
    which = f"--jobs={','.join(arrays)}"
    words = ["squeue", "--noheader", which, "--array", "--states=all", "--format=%F_%K|%T|%N|%r|%j"]
    try:
        done = run_with_timeout(QUERY_TIMEOUT_S, *words)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return {} if b"Invalid job id" in done.stderr else None  # a single one that it has forgotten
    jobs = {}
    for line in done.stdout.decode().splitlines():
        job, state, node, pending, name = line.strip().split("|", 4)
        jobs[job] = ClusterJob(state, node or None, pending, name)
    return jobs


def read_last_slurm_error(batch: Batch, job: str) -> str:
    """What the cluster itself has last said of a job, in the file of its output; of its memory rather."""
    try:
        text = (batch.path / "logs" / f"slurm-{job}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    said = [line.partition("error: ")[2].strip() for line in text.splitlines() if "error: " in line]
    of_memory = [line for line in said if "memory" in line.lower()]
    return (of_memory or said or [""])[-1]


def read_exit_code(batch: Batch, ticket: Ticket, name: str) -> int | None:
    """Return the code that a run ended with on the cluster, None if it did not get so far.

    Raises:
        UsageError: if the file that holds it is damaged.
    """
    file = submissions_dir(batch) / (ticket.submission or "") / "codes" / name
    if not file.exists():
        return None
    text = read_text(file).strip()
    if text and not re.fullmatch(r"\d{1,3}", text):
        raise UsageError(f"{file}, line 1: expected an exit code, got {short_json(text)}")
    return int(text) if text else None  # it is being written, or the disk was full


def cancel_jobs(jobs: Iterable[str]) -> str:
    """Take jobs from the cluster, those that are at work too.

    Returns:
        Why some could not be taken; an empty text if all were.
    """
    words = list(jobs)
    if not words:
        return ""
    try:
        done = subprocess.run(["scancel", *words], capture_output=True, text=True, check=False)
    except OSError:
        return "there is no scancel on this machine"
    said = done.stderr.strip().splitlines()
    return f"scancel: {said[0] if said else 'failed'}" if done.returncode or said else ""
