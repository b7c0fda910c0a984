"""Array jobs: grouping of runs into tasks, and of tasks into arrays with equal resource limits."""

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
"""Runs that an array task trains sequentially."""


@dataclass(frozen=True)
class ResourceLimits:
    """Time and memory limit of a task."""

    time: str
    """In the format of sbatch --time (2:30:00)."""
    memory: str
    """In the format of sbatch --mem (4G)."""


@dataclass(frozen=True)
class ArrayJob:
    """Array of tasks with the same resource request."""

    tasks: tuple[Task, ...]
    request: ResourceRequest

    def with_runs(self, names: Sequence[str]) -> ArrayJob:
        """Return the array job restricted to these runs."""
        tasks = (tuple(run for run in task if run.name in names) for task in self.tasks)
        return dataclasses.replace(self, tasks=tuple(task for task in tasks if task))

    def run_names(self) -> list[tuple[str, ...]]:
        """Return the names of the runs of each task."""
        return [tuple(run.name for run in task) for task in self.tasks]

    def split(self, size: int) -> Iterator[ArrayJob]:
        """Yield array jobs with at most `size` tasks each."""
        for first in range(0, len(self.tasks), size):
            yield dataclasses.replace(self, tasks=self.tasks[first : first + size])


def group_into_tasks(runs: Iterable[BatchRun], runs_per_task: int = 1) -> list[Task]:
    """Return the tasks for some runs.

    Runs with a task number in the plan are grouped by it. Other runs share a task only with runs of the same
    configuration, because run times of different configurations may differ widely.

    Args:
        runs: runs in their order.
        runs_per_task: maximum number of runs of a configuration in a task, at least 1.
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
    """Return an array job for each group of tasks with the same limits.

    Args:
        tasks: tasks to group.
        limits: function that returns the limits of a task.
        request: resources that all tasks have in common.
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
    """Submit array jobs to the cluster; the caller holds `batch.lock()`.

    The limit of running tasks applies to the whole batch: an array that could exceed it depends on the arrays before
    it.

    Args:
        batch: batch of the runs.
        jobs: array jobs; large ones are split according to the limit of the cluster.
        earlier: numbers of array jobs of the batch that have not ended.
        num_earlier: number of their tasks that have not ended.
        lock: descriptor of the lock, see `submit_job_script`.

    Returns:
        The numbers of the array jobs.

    Raises:
        UsageError: if the cluster rejects an array job; those before it are submitted.
    """
    size = read_max_array_size()
    arrays = list(earlier)
    for job in (part for array_job in jobs for part in array_job.split(size)):
        num_earlier += len(job.tasks)
        limit = job.request.max_running_tasks
        after = arrays if limit is not None and num_earlier > limit else ()
        try:
            arrays.append(_submit_array_job(batch, job, dataclasses.replace(job.request, after=after), lock))
        except UsageError as error:
            if new := arrays[len(earlier) :]:
                raise UsageError(f"{error}\n(submitted before the error: job {', '.join(new)})") from error
            raise
    return arrays[len(earlier) :]


def _submit_array_job(batch: Batch, job: ArrayJob, request: ResourceRequest, lock: int) -> str:
    names = job.run_names()
    submission = record_submission(batch, names, lambda folder: make_array_script(batch, folder, names, request))
    return submit_job_script(submission, lock)
