"""Submission of runs to the local queue or to a cluster."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfaip_like._user_code.trust import check_script_trusted, record_trusted_code
from tfaip_like._utils.errors import pluralize, truncate_list
from tfaip_like._utils.operating_system import require_posix
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, BatchRun, select_runs
from tfaip_like.experiments._epoch_extension import EpochExtensions, plan_extensions
from tfaip_like.experiments._resources.disk_space import check_disk_space
from tfaip_like.experiments._resources.estimate import estimate
from tfaip_like.experiments._status.batch_status import BatchStatus, read_status, select_unfinished
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments.launchers import Launcher, LocalQueue
from tfaip_like.experiments.launchers._jobs import (
    ArrayJob,
    ResourceLimits,
    ResourceRequest,
    Task,
    group_into_array_jobs,
    group_into_tasks,
    parse_time_limit,
)
from tfaip_like.experiments.launchers._recorded import (
    group_by_launcher,
    poll_interval,
    resolve_interrupted_submissions,
    resolve_tickets,
    restart_queues,
    start_jobs,
)
from tfaip_like.experiments.launchers._tickets import Ticket, read_tickets
from tfaip_like.params import Params
from tfaip_like.params._base import field_types

_TIME_PATTERN = re.compile(r"\d+|(\d+-)?\d+(:\d\d){0,2}")
_MEMORY_PATTERN = re.compile(r"\d+[KMGT]?")


class SubmitOptions(Params):
    """Options for submitting runs."""

    launcher: Launcher = LocalQueue()
    """Machines that train the runs. --slurm is short for --launcher Slurm."""

    jobs: int | None = None
    """Maximum number of parallel runs of the batch. Default: --jobs of generate; otherwise one, or one per GPU of
    --gpus, on this machine, and no limit on a cluster."""

    gpus: list[int] = []
    """Local queue: indices of GPUs to assign, one to each run (0 1). Cluster: number of GPUs per run."""

    additional_epochs: int | None = None
    """Number of epochs to train in addition to the completed ones, including finished runs. By default unfinished runs
    are trained to their end."""

    previous_epochs: int | None = None
    """Epoch to resume from with --additional_epochs; its checkpoint must exist, and later epochs are discarded. By
    default the last completed epoch."""

    wait: bool = False
    """Wait until the runs have ended. Ctrl-C ends the waiting, not the runs."""

    cpus: int | None = None
    """Number of CPUs per run on the cluster."""

    time: str | None = None
    """Time limit of a run on the cluster: minutes (5), hours:minutes:seconds (2:30:00) or days-hours (1-12).
    By default estimated by a calibration."""

    mem: str | None = None
    """Memory of a run on the cluster (4G). By default estimated by a calibration."""

    mem_per_cpu: str | None = None
    """Memory per CPU (2G), for clusters that require it instead of --mem."""

    recalibrate: bool = False
    """Calibrate runs again instead of using stored calibrations."""

    runs_per_task: int = 1
    """Number of runs of a configuration that an array task trains sequentially, so that short runs wait in the queue
    only once. The time limit covers all of them."""

    save_seconds: int = 120
    """Seconds before the time limit at which a run receives the signal to save its state and is requeued."""

    check_space: bool = True
    """Check that the disk has enough free space for all runs, if their size is known from a finished run or a
    calibration. One run is calibrated if more than ten are submitted to the local queue and no size is known."""

    dry_run: bool = False
    """Show what would be submitted, without submitting it."""

    trust_code: bool = False
    """Run the code of another user's batch, and record it as trusted."""

    def check(self) -> None:
        self.require(self.jobs is None or self.jobs >= 1, "jobs", "must be at least 1")
        for name in ("additional_epochs", "previous_epochs"):
            value = getattr(self, name)
            self.require(value is None or value >= 1, name, "must be at least 1")
        is_rewind = self.previous_epochs is not None
        self.require(
            not is_rewind or self.additional_epochs is not None, "previous_epochs", "requires --additional_epochs"
        )
        self.require(self.save_seconds >= 1, "save_seconds", "must be at least 1")
        self.require(len(set(self.gpus)) == len(self.gpus), "gpus", "duplicate GPU")
        self.require(all(gpu >= 0 for gpu in self.gpus), "gpus", "GPU indices start at 0")
        self.require(
            not self.launcher.capabilities.limits or len(self.gpus) <= 1,
            "gpus",
            "on a cluster, expected a single number of GPUs per run",
        )
        for name, pattern, example in (
            ("time", _TIME_PATTERN, "2:30:00"),
            ("mem", _MEMORY_PATTERN, "4G"),
            ("mem_per_cpu", _MEMORY_PATTERN, "2G"),
        ):
            value = getattr(self, name)
            is_valid = value is None or pattern.fullmatch(value) is not None
            self.require(is_valid, name, f"invalid format; expected a value such as {example}")
        self.require(
            self.time is None or parse_time_limit(self.time) > self.save_seconds,
            "time",
            f"must exceed --save_seconds {self.save_seconds} and the startup time of a run",
        )
        is_one = not (self.mem and self.mem_per_cpu)
        self.require(is_one, "mem_per_cpu", "cannot be combined with --mem")
        self.require(self.runs_per_task >= 1, "runs_per_task", "must be at least 1")
        if not self.launcher.capabilities.limits:
            for name in ("cpus", "time", "mem", "mem_per_cpu", "recalibrate"):
                self.require(not getattr(self, name), name, "requires a cluster (--launcher)")
            self.require(self.runs_per_task == 1, "runs_per_task", "requires a cluster (--launcher)")
        is_supported = not self.mem_per_cpu or self.launcher.capabilities.memory_per_cpu
        self.require(is_supported, "mem_per_cpu", f"{self.launcher.display_name} has no limit per CPU; use --mem")

    def check_machine(self) -> None:
        """Raise `UsageError` if the launcher cannot submit such runs from this machine."""
        self.launcher.require_available(self.make_request())

    def non_default_values(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, without those of subclasses."""
        default = SubmitOptions()
        values = {name: getattr(self, name) for name in field_types(SubmitOptions) if name != "trust_code"}
        return {name: value for name, value in values.items() if value != getattr(default, name)}

    @property
    def explicit_limits(self) -> ResourceLimits | None:
        """Return the limits that were set explicitly; None if one of them is missing."""
        memory = self.mem or self.mem_per_cpu
        return ResourceLimits(self.time, memory) if self.time and memory else None

    def make_request(self, index: BatchIndex | None = None) -> ResourceRequest:
        """Return the resources that all runs of a batch request.

        Args:
            index: index of the batch, with the default number of parallel runs.
        """
        return ResourceRequest(
            time=self.time or "",
            memory=self.mem or self.mem_per_cpu or "",
            memory_is_per_cpu=self.mem_per_cpu is not None,
            cpus=self.cpus,
            gpus=tuple(self.gpus),
            jobs=self.jobs,
            default_jobs=index.jobs if index is not None else None,
            save_seconds=self.save_seconds,
        )


@dataclass(frozen=True)
class SubmitResult:
    """Result of a submission."""

    selected: list[str]
    """Names of the selected runs, including those that are done or active already."""
    text: str
    """Message to print."""


def submit(batch: Batch, patterns: Sequence[str], options: SubmitOptions) -> SubmitResult:
    """Submit the selected runs, except those that are done or active already.

    Failed and stopped runs resume from their last checkpoint.

    Args:
        batch: batch of the runs.
        patterns: names of runs or configurations; all runs if empty.
        options: where and how to submit them.

    Raises:
        UsageError: if a pattern matches no run, the machine or the cluster lacks a resource, or the disk has too little
            free space.
        UntrustedCodeError: for a batch of another user.
    """
    require_posix("experiments")
    require_trusted_batch(batch, options.trust_code)
    launcher = options.launcher
    if not options.dry_run:
        options.check_machine()  # before anything is calibrated
        with batch.lock():
            resolve_interrupted_submissions(batch)
    work = _collect_work(batch, patterns, options)
    jobs, calculation = _make_jobs(batch, work, options)
    if options.check_space:
        allow_calibration = not launcher.capabilities.limits and not options.dry_run
        check_disk_space(batch, work.runs, work.status, allow_calibration=allow_calibration)
    request = options.make_request(work.index)
    if options.dry_run:
        texts = [text for job in jobs if (text := launcher.preview(batch, job))]
        lines = [*calculation, *texts, work.text("would be submitted")]
    else:
        with batch.lock() as lock:
            resolve_interrupted_submissions(batch)
            work = _collect_work(batch, patterns, options)  # another process may have submitted in the meantime
            work.extensions.write(batch)
            launcher.configure(batch, request)
            remaining = [part for job in jobs if (part := job.with_runs(work.names)).tasks]
            ids = start_jobs(launcher, batch, remaining, _active_tickets(batch, work.status, launcher), lock)
        if work.status.needs_scheduler:
            restart_queues(batch)
        where = f"submitted as {launcher.display_name} job {', '.join(ids)}" if ids else "submitted"
        names = [name for job in remaining for runs in job.run_names() for name in runs]
        lines = [*calculation, work.text(where, names)]
    if advice := launcher.advise(request, len(work.names)):
        lines.append(advice)
    return SubmitResult(work.selected, "\n".join(lines))


def require_trusted_batch(batch: Batch, trust_code: bool = False) -> None:
    """Raise `UntrustedCodeError` for a batch of another user that is not trusted.

    Args:
        batch: batch whose code would be executed.
        trust_code: record its code as trusted instead.
    """
    if trust_code:
        record_trusted_code(batch.code_files())
    check_script_trusted(batch.job_script_path)


@dataclass(frozen=True)
class _PendingWork:
    """Runs to submit."""

    index: BatchIndex
    status: BatchStatus
    selected: list[str]
    """Names of the selected runs."""
    names: list[str]
    """Names of those that are neither done nor active."""
    extensions: EpochExtensions

    @property
    def runs(self) -> list[BatchRun]:
        """Return the runs to submit."""
        return [run for run in self.index.runs if run.name in self.names]

    def text(self, verb: str, names: Sequence[str] | None = None) -> str:
        """Return a message about the submission.

        Args:
            verb: what happened to the runs.
            names: names of the submitted runs; by default all in `names`.
        """
        names = self.names if names is None else names
        others = (run for run in self.status.runs if run.name not in names and run.state in (*ACTIVE_STATES, "done"))
        counts = Counter(run.state for run in others)
        already = ", ".join(f"{count} {state}" for state, count in counts.items())
        head = (
            f"{pluralize(len(names), 'run')} of {self.status.path} {verb}{f' ({already} already)' if already else ''}"
        )
        lines = [head]
        if busy := list(self.extensions.active):
            lines.append(
                f"(no additional epochs for active runs: {truncate_list(busy)}; "
                "repeat --additional_epochs after they end)"
            )
        if early := list(self.extensions.stopped_early):
            lines.append(
                f"(skipped, because they stopped early: {truncate_list(early)}; "
                "use resume-training with other --early_stopping.* flags)"
            )
        return "\n".join(lines)


def _collect_work(batch: Batch, patterns: Sequence[str], options: SubmitOptions) -> _PendingWork:
    index = batch.read_index()
    status = read_status(batch, index)
    selected = [run.name for run in select_runs(index, patterns)]
    if options.additional_epochs is None:
        return _PendingWork(index, status, selected, select_unfinished(status, selected), EpochExtensions({}))
    extensions = plan_extensions(batch, status, selected, options.additional_epochs, options.previous_epochs)
    extended_index, extended_status = extensions.apply_to_index(index), extensions.apply_to_status(status)
    return _PendingWork(extended_index, extended_status, selected, list(extensions.runs), extensions)


def _make_jobs(batch: Batch, work: _PendingWork, options: SubmitOptions) -> tuple[list[ArrayJob], list[str]]:
    """Return the jobs for the runs to submit, and the calculation of their limits."""
    tasks = group_into_tasks(work.runs, options.runs_per_task)
    request = options.make_request(work.index)
    if not options.launcher.capabilities.limits:
        return group_into_array_jobs(tasks, lambda task: ResourceLimits("", ""), request), []
    explicit_limits = options.explicit_limits
    if explicit_limits is not None:
        return group_into_array_jobs(tasks, lambda task: explicit_limits, request), []
    if not tasks:
        return [], []
    done = {run.name: run.epoch for run in work.status.runs}
    estimates = estimate(batch, work.runs, options.save_seconds, done, options.recalibrate)

    def limits(task: Task) -> ResourceLimits:
        estimated = estimates.limits(task)
        return ResourceLimits(options.time or estimated.time, request.memory or estimated.memory)

    jobs = group_into_array_jobs(tasks, limits, request)
    return jobs, [estimates.text(work.runs, jobs)]


def _active_tickets(batch: Batch, status: BatchStatus, launcher: Launcher) -> list[Ticket]:
    """Return the tickets of active runs that belong to the cluster of a launcher."""
    active = {run.name for run in status.runs if run.state in ACTIVE_STATES}
    tickets = {name: ticket for name, ticket in resolve_tickets(batch).items() if name in active}
    groups = group_by_launcher(tickets, skip_missing=True)
    return [ticket for one, members in groups if one.cluster == launcher.cluster for ticket in members.values()]


def wait_until_finished(batch: Batch, names: Sequence[str], poll_interval_s: float = 0.5) -> list[str]:
    """Wait until runs have ended; return the names of those that are not done.

    Args:
        batch: batch of the runs.
        names: names of the runs.
        poll_interval_s: seconds between checks of the local queue.
    """
    while True:
        status = read_status(batch)
        states = {run.name: run.state for run in status.runs if run.name in names}
        if not any(state in ACTIVE_STATES for state in states.values()):
            return [name for name, state in states.items() if state != "done"]
        if status.needs_scheduler:  # it was killed
            restart_queues(batch)
        time.sleep(max(poll_interval_s, poll_interval(read_tickets(batch))))
