"""Interface to the machines that train the runs of a batch."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._jobs import ArrayJob, ResourceRequest
from tfaip_like.experiments.launchers._submissions import Submission
from tfaip_like.experiments.launchers._tickets import Ticket
from tfaip_like.params import Params
from tfaip_like.params._base import qualified_name


@dataclass(frozen=True)
class Capabilities:
    """Abilities of a launcher; `experiments` rejects flags that need others.

    >>> Capabilities(limits=True).arrays
    False
    """

    limits: bool = False
    """Enforces time and memory limits, which are estimated by default."""
    memory_per_cpu: bool = False
    """Accepts a memory limit per CPU."""
    arrays: bool = False
    """Accepts a job of several tasks; otherwise each task is a job."""
    requeue: bool = False
    """Can queue a job again that stops near its time limit; otherwise its runs are `stopped`."""
    signal: bool = False
    """Sends SIGUSR1 to a job before its time limit; otherwise the job script does so itself."""


@dataclass(frozen=True)
class JobStatus:
    """Answer of a launcher about the job of a run.

    >>> JobStatus("running", node="n1").node
    'n1'
    """

    phase: Literal["pending", "running", "ended", "unknown"]
    """`pending`: waits to be started, for the first time or again. `unknown`: the launcher did not answer."""
    node: str | None = None
    reason: str = ""
    """Why it waits, if that needs attention; why the cluster ended it; why the launcher did not answer."""
    name: str | None = None
    """Name of the job on the cluster."""
    is_cancelled: bool = False
    """Whether the cluster reports an ended job as cancelled."""


@dataclass(frozen=True)
class SubmittedRun:
    """Run that was submitted, with its ticket."""

    batch: Batch
    name: str
    ticket: Ticket


@dataclass(frozen=True)
class PreparedJob:
    """Job whose record is written, so that it may start."""

    batch: Batch
    job: ArrayJob
    submission: Submission | None = None
    """Record of a job on a cluster; None for the local queue, whose records are the tickets of the runs."""


@dataclass(frozen=True)
class QueueHealth:
    """Condition of the queue of a launcher."""

    needs_restart: bool = False
    """Whether runs wait for a process that is not running; see `Launcher.restart`."""
    problem: str = ""
    """Why no runs are started."""


class Launcher(Params, abc.ABC):
    """Machines that train the runs of a batch; the only way in which `experiments` reaches them.

    The fields are flags: `--launcher Slurm --launcher.partition gpu`. A launcher is stored with each submission, so
    later commands find it again. A launcher for another cluster usually extends `Cluster`.

    >>> from tfaip_like.experiments.launchers import Slurm
    >>> Slurm(partition="gpu").capabilities.arrays
    True
    """

    plugin_group = "tfaip_like.launchers"

    capabilities: ClassVar[Capabilities] = Capabilities()
    title: ClassVar[str] = ""
    """Name in messages; default: the name of the class."""
    poll_interval_s: ClassVar[float] = 10.0
    """Seconds between two questions about jobs."""

    @property
    def cluster(self) -> str:
        """Return the name of the cluster; launchers with the same name are asked about their jobs in one call."""
        return qualified_name(type(self))

    @property
    def display_name(self) -> str:
        """Return the name for messages."""
        return self.title or type(self).__name__

    @abc.abstractmethod
    def require_available(self, request: ResourceRequest) -> None:
        """Raise `UsageError` if jobs with these resources cannot be submitted from this machine.

        Args:
            request: resources of the jobs.
        """

    def default_jobs(self, request: ResourceRequest) -> int:
        """Return the number of parallel runs of a search for which none was set."""
        return 1

    def max_tasks(self) -> int | None:
        """Return the maximum number of tasks of a job; None for no limit."""
        return 1000 if self.capabilities.arrays else 1

    def configure(self, batch: Batch, request: ResourceRequest) -> None:
        """Apply new settings to runs that wait already; the caller holds `batch.lock()`.

        Args:
            batch: batch of the runs.
            request: resources of the submission.
        """

    def preview(self, batch: Batch, job: ArrayJob) -> str:
        """Return what `submit` would hand over, for `--dry_run`.

        Args:
            batch: batch of the runs.
            job: job that would be submitted.
        """
        return ""

    @abc.abstractmethod
    def prepare(self, batch: Batch, job: ArrayJob) -> PreparedJob:
        """Write the scripts and a durable record of a job, without starting it; the caller holds `batch.lock()`.

        Args:
            batch: batch of the runs.
            job: job to prepare.
        """

    @abc.abstractmethod
    def submit(self, prepared: PreparedJob, lock: int) -> str:
        """Submit a prepared job.

        Args:
            prepared: job whose record is written.
            lock: descriptor of the batch lock, for a child process that outlives this one.

        Returns:
            The ID of the job; empty if the launcher has none.

        Raises:
            UsageError: if the job is rejected.
        """

    def advise(self, request: ResourceRequest, num_runs: int) -> str:
        """Return a warning about a submission; an empty string if there is none.

        Args:
            request: resources of the submission.
            num_runs: number of submitted runs.
        """
        return ""

    @abc.abstractmethod
    def poll(self, runs: Sequence[SubmittedRun]) -> list[JobStatus | None]:
        """Return the job of each run; None for a job that is no longer listed, whose outcome is in its files.

        A single call covers the runs of all batches. If the machines do not answer, the phase is `unknown`.
        """

    def find_jobs(self) -> Mapping[str, str]:
        """Return the IDs of the jobs on the cluster by the paths of their scripts.

        Raises:
            ToolError: if the cluster does not answer.
        """
        return {}

    @abc.abstractmethod
    def cancel(self, batch: Batch, tickets: Mapping[str, Ticket]) -> str:
        """Cancel runs, including running ones; the caller holds `batch.lock()`.

        Each is marked as cancelled in the batch first, with an empty file, which a full disk allows too.

        Args:
            batch: batch of the runs.
            tickets: tickets by the names of the runs.

        Returns:
            The error message of the cluster if it rejected the request; otherwise an empty string.
        """

    def describe(self, batch: Batch, job: str) -> str:
        """Return why a job failed, from what the cluster wrote about it; an empty string if unknown.

        Args:
            batch: batch of the run.
            job: ID of the task.
        """
        return ""

    def check_health(self, batch: Batch, tickets: Mapping[str, Ticket]) -> QueueHealth:
        """Return the condition of the queue.

        Args:
            batch: batch of the runs.
            tickets: tickets of this launcher, by the names of the runs.
        """
        return QueueHealth()

    def restart(self, batch: Batch) -> None:
        """Restart the process that a queue needs; no effect if it is running."""
