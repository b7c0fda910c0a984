"""Submitting the runs of a batch, to the local queue or to a cluster, and cancelling them."""

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
from tfaip_like.experiments._launchers.array_jobs import (
    ArrayJob,
    ResourceLimits,
    Task,
    group_into_array_jobs,
    group_into_tasks,
    submit_array_jobs,
)
from tfaip_like.experiments._launchers.local_queue import QueueSettings, is_scheduler_running, start_scheduler
from tfaip_like.experiments._launchers.slurm import require_slurm, resolve_interrupted_submissions
from tfaip_like.experiments._launchers.slurm_script import (
    ResourceRequest,
    find_managed_options,
    make_array_script,
    parse_time_limit,
)
from tfaip_like.experiments._launchers.submissions import submissions_dir
from tfaip_like.experiments._launchers.tickets import cancel_marker_path, make_ticket, read_tickets, write_ticket
from tfaip_like.experiments._resources.disk_space import check_disk_space
from tfaip_like.experiments._resources.estimate import estimate
from tfaip_like.experiments._resources.machine import check_gpus, make_jobs_warning
from tfaip_like.experiments._status import ACTIVE_STATES, BatchStatus, read_status, select_unfinished
from tfaip_like.params import Params
from tfaip_like.params._base import field_types

CLUSTER_POLL_INTERVAL_S = 10.0
"""Asked of a cluster."""
_TIME_PATTERN = re.compile(r"\d+|(\d+-)?\d+(:\d\d){0,2}")
_MEMORY_PATTERN = re.compile(r"\d+[KMGT]?")


class SubmitOptions(Params):
    """How runs are submitted."""

    jobs: int | None = None
    """Runs at a time, of the whole batch; by default what generate was given, or else one on this machine (one for each
    of --gpus) and all on a cluster."""

    gpus: list[int] = []
    """On this machine: numbers of the GPUs that are given out, one to each run (0 1). On a cluster: how many
    GPUs each run gets."""

    additional_epochs: int | None = None
    """Train the chosen runs this many epochs more than they have done, also those that are done; by default those that
    are not done are trained to their end."""

    previous_epochs: int | None = None
    """With --additional_epochs: continue from the end of this epoch, whose checkpoint must have been kept, instead of
    the last one; later epochs are abandoned."""

    wait: bool = False
    """Wait until the runs have ended. Ctrl-C ends the waiting, not the runs."""

    slurm: bool = False
    """Submit an array job to a SLURM cluster instead of this machine's queue."""

    partition: str | None = None
    """Partition of the cluster."""

    account: str | None = None
    """Account of the cluster that is charged."""

    cpus: int | None = None
    """Processors for each run on the cluster."""

    time: str | None = None
    """Time limit of a run on the cluster, as SLURM writes it (2:30:00). By default estimated from a calibration."""

    mem: str | None = None
    """Memory of a run on the cluster (4G). By default estimated from a calibration."""

    mem_per_cpu: str | None = None
    """Memory for each of --cpus instead, where a cluster wants it so (2G)."""

    recalibrate: bool = False
    """Measure runs again, instead of using the calibrations that the batch has kept."""

    runs_per_task: int = 1
    """Runs of a configuration that one task of the cluster trains one after another: short ones wait in the
    cluster's queue only once. Its time limit is that of all of them."""

    save_seconds: int = 120
    """How long before its time limit a run is told to save its state, and put back into the queue."""

    sbatch: list[str] = []
    """Further options of sbatch, without their dashes: --sbatch qos=long constraint=v100."""

    check_space: bool = True
    """Check first that the disk has room for what all runs will leave, where that is known from a finished run or a
    calibration; if more than ten are submitted on this machine and nothing is known, one is calibrated."""

    dry_run: bool = False
    """Show what would be submitted, and do not."""

    trust_code: bool = False
    """Run the code of a batch that somebody else made; it is recorded as trusted."""

    def check(self) -> None:
        self.require(self.jobs is None or self.jobs >= 1, "jobs", "must be at least 1")
        for name in ("additional_epochs", "previous_epochs"):
            value = getattr(self, name)
            self.require(value is None or value >= 1, name, "must be at least 1")
        is_rewind = self.previous_epochs is not None
        self.require(
            not is_rewind or self.additional_epochs is not None, "previous_epochs", "needs --additional_epochs"
        )
        self.require(self.save_seconds >= 1, "save_seconds", "must be at least 1")
        self.require(len(set(self.gpus)) == len(self.gpus), "gpus", "names a GPU twice")
        self.require(all(gpu >= 0 for gpu in self.gpus), "gpus", "GPUs are numbered from 0")
        self.require(
            not self.slurm or len(self.gpus) <= 1, "gpus", "on a cluster say how many GPUs each run gets, one number"
        )
        for name, pattern, like in (
            ("time", _TIME_PATTERN, "2:30:00"),
            ("mem", _MEMORY_PATTERN, "4G"),
            ("mem_per_cpu", _MEMORY_PATTERN, "2G"),
        ):
            value = getattr(self, name)
            self.require(value is None or pattern.fullmatch(value) is not None, name, f"write it like {like}")
        self.require(
            self.time is None or parse_time_limit(self.time) > self.save_seconds,
            "time",
            f"must be longer than --save_seconds {self.save_seconds} and what a run takes to start",
        )
        is_one = not (self.mem and self.mem_per_cpu)
        self.require(is_one, "mem_per_cpu", "takes the place of --mem; give one or the other")
        self.require(self.runs_per_task >= 1, "runs_per_task", "must be at least 1")
        for option, flag in find_managed_options(self.sbatch).items():
            self.require(False, "sbatch", f"{option} is said with --{flag}" if flag else f"{option} is set here")
        if not self.slurm:
            for name in ("partition", "account", "cpus", "time", "mem", "mem_per_cpu", "recalibrate", "sbatch"):
                self.require(not getattr(self, name), name, "is for a cluster: add --slurm")
            self.require(self.runs_per_task == 1, "runs_per_task", "is for a cluster: add --slurm")

    def check_machine(self) -> None:
        """Raise `UsageError` if the local queue is to give out what this machine does not have."""
        if not self.slurm:
            check_gpus(self.gpus)

    def non_default_values(self) -> dict[str, Any]:
        """How runs are submitted, where that is not the default; without what a subclass adds."""
        default = SubmitOptions()
        values = {name: getattr(self, name) for name in field_types(SubmitOptions) if name != "trust_code"}
        return {name: value for name, value in values.items() if value != getattr(default, name)}

    @property
    def explicit_limits(self) -> ResourceLimits | None:
        """Return the limits that need no calibration; None if one of them is missing."""
        memory = self.mem or self.mem_per_cpu
        return ResourceLimits(self.time, memory) if self.time and memory else None

    def make_request(self, index: BatchIndex) -> ResourceRequest:
        """Return what is asked of the cluster for all runs alike."""
        return ResourceRequest(
            time=self.time or "",
            memory=self.mem or self.mem_per_cpu or "",
            memory_is_per_cpu=self.mem_per_cpu is not None,
            partition=self.partition,
            account=self.account,
            gpus=self.gpus[0] if self.gpus else None,
            cpus=self.cpus,
            max_running_tasks=self.jobs or index.jobs,
            save_seconds=self.save_seconds,
            extra=self.sbatch,
        )


@dataclass(frozen=True)
class SubmitResult:
    """What was submitted."""

    chosen: list[str]
    """The runs that were asked for, also those that are done or in hand already."""
    text: str
    """For the person who submitted."""


def submit(batch: Batch, patterns: Sequence[str], options: SubmitOptions) -> SubmitResult:
    """Submits the chosen runs, all but those that are done or in hand already.

    What has failed or was stopped goes on from its last checkpoint.
    """
    require_posix("experiments")
    require_trusted_batch(batch, options.trust_code)
    if options.slurm:
        return _submit_to_cluster(batch, patterns, options)
    options.check_machine()
    if options.check_space and not options.dry_run:
        work = _collect_work(batch, patterns, options)
        check_disk_space(batch, work.runs, work.status, allow_calibration=True)
    with batch.lock():
        resolve_interrupted_submissions(batch)
        work = _collect_work(batch, patterns, options)
        jobs = options.jobs or len(options.gpus) or work.index.jobs or 1
        if not options.dry_run:
            work.extensions.write(batch)
            settings = QueueSettings(jobs, tuple(options.gpus))
            if options.jobs is not None or options.gpus or not is_scheduler_running(batch):
                settings.write(batch)
            for name in work.names:
                write_ticket(batch, name, make_ticket())
                cancel_marker_path(batch, name).unlink(missing_ok=True)  # last: on a full disk it stays cancelled
    if not options.dry_run and (work.names or work.status.needs_scheduler):
        start_scheduler(batch)
    verb = "would be submitted" if options.dry_run else "submitted"
    remark = make_jobs_warning(min(jobs, len(work.names)))
    return SubmitResult(work.chosen, "\n".join([work.text(verb), *([remark] if remark else [])]))


def require_trusted_batch(batch: Batch, trust_code: bool = False) -> None:
    """Raise `UntrustedCodeError` for a batch that somebody else made.

    Args:
        trust_code: record it as trusted instead, so that its runs may import its code.
    """
    if trust_code:
        record_trusted_code(batch.code_files())
    check_script_trusted(batch.job_script_path)


@dataclass(frozen=True)
class _PendingWork:
    """What is submitted of a batch."""

    index: BatchIndex
    status: BatchStatus
    chosen: list[str]
    """The runs that were asked for."""
    names: list[str]
    """Those of them that need work."""
    extensions: EpochExtensions

    @property
    def runs(self) -> list[BatchRun]:
        """Return the runs that need work."""
        return [run for run in self.index.runs if run.name in self.names]

    def text(self, verb: str, names: Sequence[str] | None = None) -> str:
        """Return a line for the person who submits.

        Args:
            names: the runs that were submitted; by default all that need work.
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
                f"(no more epochs for {truncate_list(busy)}: still waiting or running; "
                "repeat --additional_epochs after they end)"
            )
        if early := list(self.extensions.stopped_early):
            lines.append(
                f"(left out, because they stopped early: {truncate_list(early)}; "
                "use resume-training with other --early_stopping.*)"
            )
        return "\n".join(lines)


def _collect_work(batch: Batch, patterns: Sequence[str], options: SubmitOptions) -> _PendingWork:
    index = batch.read_index()
    status = read_status(batch, index)
    chosen = [run.name for run in select_runs(index, patterns)]
    if options.additional_epochs is None:
        return _PendingWork(index, status, chosen, select_unfinished(status, chosen), EpochExtensions({}))
    more = plan_extensions(batch, status, chosen, options.additional_epochs, options.previous_epochs)
    return _PendingWork(more.apply_to_index(index), more.apply_to_status(status), chosen, list(more.runs), more)


def _submit_to_cluster(batch: Batch, patterns: Sequence[str], options: SubmitOptions) -> SubmitResult:
    if not options.dry_run:
        require_slurm()  # before anything is calibrated
        with batch.lock():
            resolve_interrupted_submissions(batch)
    work = _collect_work(batch, patterns, options)
    jobs, said = _make_array_jobs(batch, work, options)
    if options.check_space:
        check_disk_space(batch, work.runs, work.status, allow_calibration=False)
    if options.dry_run:
        here = submissions_dir(batch).resolve() / "ID"
        scripts = [make_array_script(batch, here, job.run_names(), job.request) for job in jobs]
        return SubmitResult(work.chosen, "\n".join([*said, *scripts, work.text("would be submitted")]))
    with batch.lock() as lock:
        resolve_interrupted_submissions(batch)
        work = _collect_work(batch, patterns, options)  # somebody may have submitted while this was calibrated
        work.extensions.write(batch)
        remaining = [part for job in jobs if (part := job.with_runs(work.names)).tasks]
        active = _active_jobs(work.status)
        earlier = list(dict.fromkeys(job.partition("_")[0] for job in active))
        arrays = submit_array_jobs(batch, remaining, earlier, len(active), lock)
    where = f"submitted as SLURM job {', '.join(arrays)}" if arrays else "submitted"
    names = [name for job in remaining for runs in job.run_names() for name in runs]
    return SubmitResult(work.chosen, "\n".join([*said, work.text(where, names)]))


def _make_array_jobs(batch: Batch, work: _PendingWork, options: SubmitOptions) -> tuple[list[ArrayJob], list[str]]:
    """Return the array jobs for the runs that need work, and how their limits were calculated."""
    tasks = group_into_tasks(work.runs, options.runs_per_task)
    request = options.make_request(work.index)
    given = options.explicit_limits
    if given is not None:
        return group_into_array_jobs(tasks, lambda task: given, request), []
    if not tasks:
        return [], []
    done = {run.name: run.epoch for run in work.status.runs}
    estimates = estimate(batch, work.runs, options.save_seconds, done, options.recalibrate)

    def limits(task: Task) -> ResourceLimits:
        estimated = estimates.limits(task)
        return ResourceLimits(options.time or estimated.time, request.memory or estimated.memory)

    jobs = group_into_array_jobs(tasks, limits, request)
    return jobs, [estimates.text(work.runs, jobs)]


def _active_jobs(status: BatchStatus) -> list[str]:
    """Return the tasks of the cluster that have not ended."""
    jobs = (run.job for run in status.runs if run.job is not None and run.state in ACTIVE_STATES)
    return list(dict.fromkeys(jobs))


def wait_until_finished(batch: Batch, names: Sequence[str], poll_interval_s: float = 0.5) -> list[str]:
    """Waits until runs have ended; those that are not done."""
    while True:
        status = read_status(batch)
        states = {run.name: run.state for run in status.runs if run.name in names}
        if not any(state in ACTIVE_STATES for state in states.values()):
            return [name for name, state in states.items() if state != "done"]
        if status.needs_scheduler:  # it was killed
            start_scheduler(batch)
        # Who asks a cluster more often is not liked there.
        is_on_cluster = any(ticket.where == "slurm" for ticket in read_tickets(batch).values())
        time.sleep(CLUSTER_POLL_INTERVAL_S if is_on_cluster else poll_interval_s)
