"""Base of the launchers for clusters: durable records, job scripts, and the recovery of interrupted submissions."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_text, is_printable
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments.launchers._cluster_script import JobShell, make_job_script
from tfaip_like.experiments.launchers._jobs import ArrayJob, ResourceRequest
from tfaip_like.experiments.launchers._launcher import JobStatus, Launcher, PreparedJob, SubmittedRun
from tfaip_like.experiments.launchers._submissions import (
    NO_ARRAY_JOB,
    Submission,
    read_submissions,
    record_submission,
    submissions_dir,
)
from tfaip_like.experiments.launchers._tickets import Ticket
from tfaip_like.experiments.launchers._tools import ToolError


class Cluster(Launcher, abc.ABC):
    """Launcher for a cluster with command-line tools to submit, list and cancel jobs.

    This class writes the job script and a record of every job before it is submitted, finds out what became of a
    submission that was killed, and lets each run be trained by one job only. A subclass names the tools; the how-to
    page about clusters shows one for PBS.
    """

    shell: ClassVar[JobShell]
    """How a job script finds its ID and its task."""
    task_id: ClassVar[str] = "{job}"
    """Format of the ID of a task: "{job}_{task}" for arrays on SLURM."""

    @abc.abstractmethod
    def directives(self, batch: Batch, num_tasks: int, request: ResourceRequest) -> list[str]:
        """Return the lines at the top of the job script that request resources (`#PBS -l walltime=...`).

        Args:
            batch: batch of the runs.
            num_tasks: number of tasks of the job, numbered from 0.
            request: resources of each task.
        """

    @abc.abstractmethod
    def submit_script(self, script: str, lock: int) -> str:
        """Submit a job script and return the ID of the job.

        Args:
            script: path of the script, which identifies the job in `find_jobs`.
            lock: to be passed to `run_tool`.

        Raises:
            ToolError: if the tool fails; the job may have been accepted nevertheless.
        """

    @abc.abstractmethod
    def find_jobs(self) -> Mapping[str, str]: ...

    @abc.abstractmethod
    def query_jobs(self, jobs: Sequence[str]) -> Mapping[str, JobStatus]:
        """Return the status of jobs, by the IDs of their tasks; jobs that the cluster no longer lists are omitted.

        Args:
            jobs: IDs of jobs, as `submit_script` returned them.

        Raises:
            ToolError: if the cluster does not answer.
        """

    @abc.abstractmethod
    def cancel_jobs(self, jobs: Sequence[str]) -> None:
        """Cancel jobs or tasks, including running ones, which receive SIGTERM.

        Raises:
            ToolError: if the cluster rejects the request.
        """

    def make_script(self, batch: Batch, folder: str, tasks: Sequence[Sequence[str]], request: ResourceRequest) -> str:
        """Return the script of a job.

        Args:
            batch: batch of the runs.
            folder: directory of the record.
            tasks: names of the runs that each task trains sequentially.
            request: resources of each task.

        Raises:
            UsageError: if a directive contains control characters.
        """
        directives = self.directives(batch, len(tasks), request)
        for line in directives:
            if not is_printable(line):  # text after a line break would be a command of the script
                raise UsageError(f"{escape_text(line)}: must not contain control characters")
        return make_job_script(
            directives=directives,
            shell=self.shell,
            task_id=self.task_id,
            batch=batch,
            folder=folder,
            tasks=tasks,
            timer_s=self._timer_s(request),
        )

    def _timer_s(self, request: ResourceRequest) -> int | None:
        """Return after how many seconds the script signals itself; None if the cluster does so."""
        if self.capabilities.signal or request.seconds is None:
            return None
        return max(1, request.seconds - request.save_seconds)

    def preview(self, batch: Batch, job: ArrayJob) -> str:
        folder = str(submissions_dir(batch).resolve() / "ID")
        names = job.run_names()
        shown = names if self.capabilities.arrays else names[:1]
        others = [f"({len(names) - len(shown)} similar scripts)"] if len(names) > len(shown) else []
        return "\n".join([self.make_script(batch, folder, shown, job.request), *others])

    def prepare(self, batch: Batch, job: ArrayJob) -> PreparedJob:
        names = job.run_names()
        submission = record_submission(
            batch,
            names,
            lambda folder: self.make_script(batch, str(folder), names, job.request),
            self.to_dict(),
            self.task_id,
        )
        return PreparedJob(batch, job, submission)

    def submit(self, prepared: PreparedJob, lock: int) -> str:
        submission = prepared.submission
        assert submission is not None  # from `prepare` of this class
        script, problem = submission.record.script, "failed"
        try:
            job = self.submit_script(script, lock)
        except ToolError as error:  # the job may have been accepted nevertheless
            problem, job = str(error), NO_ARRAY_JOB
            with contextlib.suppress(ToolError):
                job = self.find_jobs().get(script, NO_ARRAY_JOB)
        owner = submission.claim(job)
        if owner == NO_ARRAY_JOB:
            raise UsageError(f"{problem}\n(the script is {submission.script})")
        if owner != job:  # on a file system without locks, another process was faster
            with contextlib.suppress(ToolError):
                self.cancel_jobs([job])
        return owner

    def poll(self, runs: Sequence[SubmittedRun]) -> list[JobStatus | None]:
        # By number instead of by user: the batch may belong to another user.
        jobs = sorted({run.ticket.array for run in runs if run.ticket.array is not None})
        if not jobs:
            return [None for _ in runs]
        try:
            found = self.query_jobs(jobs)
        except ToolError as error:
            return [JobStatus("unknown", reason=f"{error.tool} failed") for _ in runs]
        return [found.get(run.ticket.job or "") for run in runs]

    def cancel(self, batch: Batch, tickets: Mapping[str, Ticket]) -> str:
        submissions = {submission.folder.name: submission for submission in read_submissions(batch)}
        try:
            for name, ticket in tickets.items():
                submissions[ticket.submission or ""].mark_cancelled(name)
        finally:  # even if a marker could not be written
            problem = self._cancel_ended(_jobs_to_cancel(tickets, submissions.values()))
        return problem

    def _cancel_ended(self, jobs: Iterable[str]) -> str:
        wanted = list(jobs)
        try:
            if wanted:
                self.cancel_jobs(wanted)
        except ToolError as error:
            return str(error).splitlines()[0]
        return ""


def _jobs_to_cancel(tickets: Mapping[str, Ticket], submissions: Iterable[Submission]) -> Iterator[str]:
    """Yield the tasks whose runs are all cancelled or ended; the job if this holds for all of its tasks."""
    for submission in submissions:
        requested = {name: one for name, one in tickets.items() if one.submission == submission.folder.name}
        ended = {*requested, *submission.cancelled_runs(), *submission.ended_runs()}
        tasks = [runs for runs in submission.record.tasks if not requested.keys().isdisjoint(runs)]
        is_whole = ended.issuperset(name for runs in submission.record.tasks for name in runs)
        chosen = [
            requested[next(name for name in runs if name in requested)] for runs in tasks if ended.issuperset(runs)
        ]
        jobs = (ticket.array if is_whole else ticket.job for ticket in chosen)
        yield from dict.fromkeys(job for job in jobs if job is not None)
