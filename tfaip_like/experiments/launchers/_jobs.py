"""Jobs: grouping of runs into tasks, of tasks into array jobs with equal limits, and the resources they request."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tfaip_like.experiments._batches.batch import BatchRun

Task = tuple[BatchRun, ...]
"""Runs that an array task trains sequentially."""


@dataclass(frozen=True)
class ResourceLimits:
    """Time and memory limit of a task."""

    time: str
    """Minutes (5), hours:minutes:seconds (2:30:00), or days-hours (1-12); see `parse_time_limit`."""
    memory: str
    """Number of megabytes, or a number with a unit (4G)."""


@dataclass(frozen=True)
class ResourceRequest:
    """Resources that each task of a job requests.

    >>> request = ResourceRequest(time="2:30:00", memory="4G")
    >>> request.seconds, request.megabytes
    (9000, 4096)
    """

    time: str = ""
    """Time limit, see `ResourceLimits`; empty for none."""
    memory: str = ""
    """Memory limit, see `ResourceLimits`; empty for none."""
    memory_is_per_cpu: bool = False
    cpus: int | None = None
    gpus: tuple[int, ...] = ()
    """Local queue: GPUs to assign. Cluster: number of GPUs per task."""
    jobs: int | None = None
    """Maximum number of tasks of the batch that run in parallel; None for the default."""
    default_jobs: int | None = None
    """Default of the batch for `jobs`."""
    save_seconds: int = 120
    """Seconds before the time limit at which a run receives the signal to save and exit."""
    after: Sequence[str] = ()
    """Job IDs that must end before this job starts."""

    @property
    def max_running_tasks(self) -> int | None:
        """Return the maximum number of tasks that run in parallel; None for no limit."""
        return self.jobs or self.default_jobs

    @property
    def num_gpus(self) -> int | None:
        """Return the number of GPUs per task on a cluster; None if it was not set."""
        return self.gpus[0] if self.gpus else None

    @property
    def seconds(self) -> int | None:
        """Return the time limit in seconds; None without a limit."""
        return parse_time_limit(self.time) if self.time else None

    @property
    def megabytes(self) -> int | None:
        """Return the memory limit in megabytes, rounded up; None without a limit."""
        return parse_memory_limit(self.memory) if self.memory else None


def parse_time_limit(limit: str) -> int:
    """Return the seconds of a time limit: minutes, minutes:seconds, hours:minutes:seconds, days-hours, ..."""
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = (0, *parts, 0)[:3]
    return (int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds


def parse_memory_limit(limit: str) -> int:
    """Return the megabytes of a memory limit, rounded up: 500, 500M, 4G."""
    match = re.fullmatch(r"(\d+)([KMGT]?)", limit)
    if match is None:
        raise ValueError(f"expected a memory limit such as 4G, got {limit!r}")
    kilobytes: int = int(match[1]) * 1024 ** "KMGT".index(match[2] or "M")
    return -(-kilobytes // 1024)


@dataclass(frozen=True)
class ArrayJob:
    """Array of tasks with the same resource request."""

    tasks: tuple[Task, ...]
    request: ResourceRequest

    def with_runs(self, names: Sequence[str]) -> ArrayJob:
        """Return the array job restricted to these runs."""
        tasks = (tuple(run for run in task if run.name in names) for task in self.tasks)
        return dataclasses.replace(self, tasks=tuple(task for task in tasks if task))

    def after(self, ids: Sequence[str]) -> ArrayJob:
        """Return the job with jobs that must end before it starts."""
        return dataclasses.replace(self, request=dataclasses.replace(self.request, after=tuple(ids)))

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
