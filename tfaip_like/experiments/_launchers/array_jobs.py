"""Array jobs for runs of a batch: which runs share a task, and what each array asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._launchers.slurm import read_max_array_size, submit_job_script
from tfaip_like.experiments._launchers.slurm_script import ResourceRequest, make_array_script
from tfaip_like.experiments._launchers.submissions import record_submission

Task = tuple[BatchRun, ...]
"""Runs that are trained one after another by a task of an array."""


@dataclass(frozen=True)
class ResourceLimits:
    """Time and memory of a task, as SLURM writes them."""

    time: str
    memory: str


@dataclass(frozen=True)
class ArrayJob:
    """Tasks that ask for the same."""

    tasks: tuple[Task, ...]
    request: ResourceRequest

    def with_runs(self, names: Sequence[str]) -> ArrayJob:
        """Return it with these runs only."""
        tasks = (tuple(run for run in task if run.name in names) for task in self.tasks)
        return dataclasses.replace(self, tasks=tuple(task for task in tasks if task))

    def run_names(self) -> list[tuple[str, ...]]:
        """Return the names of the runs of each task."""
        return [tuple(run.name for run in task) for task in self.tasks]

    def split(self, size: int) -> Iterator[ArrayJob]:
        """Yield array jobs with a limited number of tasks."""
        for first in range(0, len(self.tasks), size):
            yield dataclasses.replace(self, tasks=self.tasks[first : first + size])


def group_into_tasks(runs: Iterable[BatchRun], runs_per_task: int = 1) -> list[Task]:
    """Return the tasks for some runs: those that their plan puts together, the others by number.

    Runs of different configurations, which may take very different time, share a task only if the plan says so.
    """
    together: dict[tuple[str, object], list[BatchRun]] = {}
    tasks: list[list[BatchRun]] = []
    for run in runs:
        key = ("task", run.task) if run.task is not None else ("configuration", run.configuration)
        size = None if run.task is not None else runs_per_task
        if key not in together or len(together[key]) == size:
            together[key] = []
            tasks.append(together[key])
        together[key].append(run)
    return [tuple(task) for task in tasks]


def group_into_array_jobs(
    tasks: Iterable[Task], limits: Callable[[Task], ResourceLimits], request: ResourceRequest
) -> list[ArrayJob]:
    """Return an array job for all tasks with the same limits, so that each asks for what it needs.

    Args:
        request: what all of them ask for.
    """
    groups: dict[ResourceLimits, list[Task]] = {}
    for task in tasks:
        groups.setdefault(limits(task), []).append(task)
    return [
        ArrayJob(tuple(group), dataclasses.replace(request, time=limit.time, memory=limit.memory))
        for limit, group in groups.items()
    ]


def submit_array_jobs(
    batch: Batch, jobs: Iterable[ArrayJob], earlier: Sequence[str], num_earlier: int, lock: int
) -> list[str]:
    """Hand array jobs to the cluster; to be called while `batch.lock()`.

    A limit of the tasks at work holds for the whole batch: an array with which there may be more tasks follows those
    before it.

    Args:
        earlier: array jobs of the batch that have not ended.
        num_earlier: runs of theirs that have not ended.
        lock: see `submit_job_script`.

    Returns:
        The numbers of the array jobs.

    Raises:
        UsageError: when the cluster does not take one; those before it are submitted.
    """
    size = read_max_array_size()
    arrays = list(earlier)
    for job in (part for whole in jobs for part in whole.split(size)):
        num_earlier += len(job.tasks)
        limit = job.request.max_running_tasks
        after = arrays if limit is not None and num_earlier > limit else ()
        try:
            arrays.append(_submit_array_job(batch, job, dataclasses.replace(job.request, after=after), lock))
        except UsageError as error:
            if new := arrays[len(earlier) :]:
                raise UsageError(f"{error}\n(before that, job {', '.join(new)} was submitted)") from error
            raise
    return arrays[len(earlier) :]


def _submit_array_job(batch: Batch, job: ArrayJob, request: ResourceRequest, lock: int) -> str:
    names = job.run_names()
    submission = record_submission(batch, names, lambda here: make_array_script(batch, here, names, request))
    return submit_job_script(submission, lock)
